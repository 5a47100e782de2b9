//! The settings of [`crate::config`] as flags and environment variables.

use std::ffi::{OsStr, OsString};
use std::marker::PhantomData;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{
    CONFIG_VARIABLE, Config, ConfigError, Group, Override, SETTINGS, Setting, UnknownVariable, unknown_variables,
};

const CONFIG: &str = "config";

/// The settings that a verb has.
pub(crate) trait Choice {
    /// Whether the verb has the setting with this key.
    fn has(key: &str) -> bool;
}

/// All settings.
pub(crate) struct All;

impl Choice for All {
    fn has(_: &str) -> bool {
        true
    }
}

/// The settings of the command line and the environment.
pub(crate) struct SettingFlags<C = All> {
    file: Option<PathBuf>,
    overrides: Vec<Override>,
    choice: PhantomData<C>,
}

fn chosen<C: Choice>() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| C::has(setting.key))
}

/// A warning for each environment variable that looks like a setting and is none.
pub(super) fn unknown_variable_warnings() -> impl Iterator<Item = String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    unknown_variables(names).into_iter().map(|UnknownVariable { name, meant }| {
        let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        format!("the environment variable `{name}` is no setting and has no effect{meant}")
    })
}

/// Log these warnings.
pub(super) fn log_unknown_variables() {
    unknown_variable_warnings().for_each(|warning| tracing::warn!(target: "host", "{warning}"));
}

/// The settings of a replay: the limits of a job are those of its recording.
pub(crate) struct OfReplay;

impl Choice for OfReplay {
    fn has(key: &str) -> bool {
        matches!(
            key,
            "cache-dir"
                | "compile-timeout"
                | "compile-memory"
                | "init-timeout"
                | "unresponsive-timeout"
                | "log-level"
                | "log-format"
        )
    }
}

/// The settings of a dispatcher without agents.
pub(crate) struct OfDispatcher;

impl Choice for OfDispatcher {
    fn has(key: &str) -> bool {
        let of_dispatcher = |row: &&Setting| matches!(row.group, Group::Dispatcher | Group::Output);
        matches!(key, "api-key" | "api-secret") || SETTINGS.iter().filter(of_dispatcher).any(|row| row.key == key)
    }
}

impl<C> SettingFlags<C> {
    /// The checked configuration.
    pub(crate) fn load(self) -> Result<Config, ConfigError> {
        Config::load(self.file.as_deref(), self.overrides)
    }
}

impl<C: Choice> Args for SettingFlags<C> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .env(CONFIG_VARIABLE)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .hide_env_values(true)
            .help("TOML file of settings; each flag below is a key in it");
        let flags = chosen::<C>().map(|setting| {
            let help = match setting.default {
                "" => setting.help.to_owned(),
                default => format!("{} [default: {default}]", setting.help),
            };
            Arg::new(setting.key)
                .long(setting.key)
                .visible_aliases(setting.alias)
                .env(setting.env())
                .hide_env_values(true)
                .value_name(setting.value)
                .value_parser(clap::value_parser!(OsString))
                .action(if setting.list { ArgAction::Append } else { ArgAction::Set })
                .help_heading(setting.group.title())
                .help(help)
        });
        command.next_help_heading("Settings").arg(file).args(flags)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<C: Choice> FromArgMatches for SettingFlags<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let overrides = chosen::<C>().filter_map(|setting| {
            // The entries of a list are lines.
            let values: Vec<OsString> = matches.get_many::<OsString>(setting.key)?.cloned().collect();
            let value = values.join(OsStr::new("\n"));
            let source = match matches.value_source(setting.key) {
                Some(ValueSource::EnvVariable) => setting.env(),
                _ => "command line".to_owned(),
            };
            Some(Override { key: setting.key, value, source })
        });
        Ok(Self {
            file: matches.get_one::<PathBuf>(CONFIG).cloned(),
            overrides: overrides.collect(),
            choice: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

//! What a setting is: its names, its default, its largest value, and how a value is set.

use wasm_worker_core::duration::parse_any_length;

use super::Config;
use super::parse::{cores, count, fuel_of_any_size, size};

/// One setting.
#[expect(clippy::struct_excessive_bools, reason = "facts of a row, and no state")]
pub struct Setting {
    /// The flag, and the key in the config file.
    pub key: &'static str,
    /// The environment variable, where LiveKit has one; otherwise the name follows from the key.
    pub(super) variable: Option<&'static str>,
    /// The default value, as it is written.
    pub default: &'static str,
    /// The placeholder of the value in the help text.
    pub value: &'static str,
    /// The largest value, in the notation of the setting. A setting whose value is a text has a longest one instead, in bytes.
    pub largest: &'static str,
    /// The help text.
    pub help: &'static str,
    /// The part of the program that the setting is for.
    pub group: Group,
    /// A second, shorter flag.
    pub alias: Option<&'static str>,
    /// Whether the value is a list, which a flag gives one entry at a time, and a file as an array or a table.
    pub list: bool,
    /// Whether no output may show the value.
    pub(super) secret: bool,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

/// The part of the program that a setting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// One agent; the setting may be in the table of the agent.
    Agent,
    /// The worker process.
    Worker,
    /// The server, and the registration with it.
    LiveKit,
    /// The dispatcher, which is used without a server.
    Dispatcher,
    /// Events and the log.
    Output,
}

impl Group {
    /// The heading in the help text.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Agent => "An agent and its jobs",
            Self::Worker => "The worker",
            Self::LiveKit => "LiveKit",
            Self::Dispatcher => "The dispatcher, which is used without a server",
            Self::Output => "Output",
        }
    }
}

impl Setting {
    /// The environment variable of this setting.
    pub fn env(&self) -> String {
        let own = || format!("WASM_WORKER_{}", self.key.replace('-', "_").to_uppercase());
        self.variable.map_or_else(own, str::to_owned)
    }

    pub(super) const fn of(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    pub(super) const fn named(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    pub(super) const fn also(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    pub(super) const fn list(mut self) -> Self {
        self.list = true;
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Set the value, unless it is malformed or above the largest one.
    pub(super) fn apply(&self, config: &mut Config, value: &str) -> Result<(), String> {
        if self.is_above_largest(value) {
            let of = if self.is_text() { "want a text of at most" } else { "want at most" };
            return Err(format!("{of} {}", self.largest));
        }
        (self.set)(config, value)
    }

    /// Whether the value is a text or one of some words, and no quantity.
    pub fn is_text(&self) -> bool {
        !matches!(self.value, "TIME" | "SIZE" | "COUNT" | "FUEL" | "CORES" | "SHARE")
    }

    /// Whether a value exceeds the largest one. A malformed value does not; its parser refuses it.
    fn is_above_largest(&self, value: &str) -> bool {
        fn above<T: PartialOrd>(parse: fn(&str) -> Result<T, String>, value: &str, largest: &str) -> bool {
            matches!((parse(value), parse(largest)), (Ok(value), Ok(largest)) if value > largest)
        }
        match self.value {
            "TIME" => above(parse_any_length, value, self.largest),
            "SIZE" => above(size, value, self.largest),
            "COUNT" => above(count, value, self.largest),
            "FUEL" => above(fuel_of_any_size, value, self.largest),
            "CORES" | "SHARE" => above(cores, value, self.largest),
            _ => size(self.largest).is_ok_and(|bytes| value.len() > bytes),
        }
    }

    /// The value as outputs may show it.
    pub(super) fn shown(&self, value: &str) -> String {
        if self.secret {
            return "(secret)".into();
        }
        // A user and a password may stand in a URL.
        match value.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
            Some((scheme, host)) => format!("{scheme}://(secret)@{host}"),
            None => value.into(),
        }
    }
}

/// The longest text.
pub(super) const TEXT_MAX: &str = "4KiB";
/// The longest list.
pub(super) const LIST_MAX: &str = "64KiB";

macro_rules! setting {
    ($key:literal, $default:literal, $value:literal, $help:literal, $set:expr) => {
        setting!($key, $default, $value <= crate::config::setting::TEXT_MAX, $help, $set)
    };
    ($key:literal, $default:literal, $value:literal <= $largest:expr, $help:literal, $set:expr) => {
        Setting {
            key: $key,
            variable: None,
            default: $default,
            value: $value,
            largest: $largest,
            help: $help,
            group: Group::Agent,
            alias: None,
            list: false,
            secret: false,
            set: $set,
        }
    };
}
pub(super) use setting;

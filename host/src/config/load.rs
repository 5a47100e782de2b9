//! Loading of the settings: the defaults, the file, the table of an agent in the file, the environment, and the flags.
//!
//! Later sources replace earlier ones. All faults are collected before the load fails.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::fault::{ConfigError, Fault};
use super::setting::Group;
use super::settings::SETTINGS;
use super::{Config, SetBy};

/// The key of the agents' tables in the file.
const AGENTS: &str = "agents";

/// One value from the environment or the command line.
pub struct Override {
    /// The key of the setting.
    pub key: &'static str,
    /// The value as it was written. A value that is not UTF-8 is a fault.
    pub value: OsString,
    /// The variable or the command line, for messages.
    pub source: String,
}

impl Config {
    /// Load the defaults, then the file, then the overrides in order.
    ///
    /// # Errors
    /// When the file cannot be read, or a value is unknown, malformed or contradicts another one; with all faults at once.
    pub fn load(file: Option<&Path>, overrides: Vec<Override>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut faults = Vec::new();
        if let Some(path) = file {
            config.apply_file(path, &mut faults);
        }
        for Override { key, value, source } in overrides {
            let livekit_variable = SETTINGS.iter().any(|setting| setting.variable == Some(&source));
            let mut server_faults = std::mem::take(&mut config.server_faults);
            let own_faults = if livekit_variable { &mut server_faults } else { &mut faults };
            let Some(value) = value.to_str() else {
                own_faults.push(Fault { what: key.into(), source, why: "the value is not UTF-8".into() });
                config.server_faults = server_faults;
                continue;
            };
            config.apply(key, value, &source, own_faults);
            config.server_faults = server_faults;
            // A fault is reported once, and not for each agent.
            for agent in config.agents.values_mut() {
                agent.apply(key, value, &source, &mut Vec::new());
            }
        }
        config.check(&mut faults);
        if faults.is_empty() {
            return Ok(config);
        }
        faults.append(&mut config.server_faults);
        Err(ConfigError { faults })
    }

    /// Check the settings that only verbs that serve use.
    ///
    /// # Errors
    /// When a LiveKit environment variable is not usable.
    pub fn check_server(&self) -> Result<(), ConfigError> {
        let faults = self.server_faults.clone();
        if faults.is_empty() { Ok(()) } else { Err(ConfigError { faults }) }
    }

    fn apply_file(&mut self, path: &Path, faults: &mut Vec<Fault>) {
        let source = path.display().to_string();
        let mut refuse = |why: String| faults.push(Fault { what: "config".into(), source: source.clone(), why });
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return refuse(format!("cannot be read: {error}")),
        };
        let mut table: toml::Table = match toml::from_str(&text) {
            Ok(table) => table,
            Err(error) => return refuse(not_toml(&text, &error)),
        };
        let agents = table.remove(AGENTS);
        for (key, value) in table {
            self.apply_value(&key, value, &source, faults);
        }
        match agents {
            None => {}
            Some(toml::Value::Table(agents)) => {
                for (name, own) in agents {
                    self.apply_agent(name, own, &source, faults);
                }
            }
            Some(other) => {
                let why = format!("want a table for each agent, such as [agents.hello], got {}", other.type_str());
                faults.push(Fault { what: AGENTS.into(), source, why });
            }
        }
    }

    /// Add an agent's table: its settings replace those of the file.
    fn apply_agent(&mut self, name: String, own: toml::Value, source: &str, faults: &mut Vec<Fault>) {
        let what = format!("{AGENTS}.{name}");
        let toml::Value::Table(own) = own else {
            let why = format!("want a table, got {}", own.type_str());
            return faults.push(Fault { what, source: source.into(), why });
        };
        let mut agent = Self { agents: BTreeMap::new(), set_by: Vec::new(), ..self.clone() };
        let mut own_faults = Vec::new();
        for (key, value) in own {
            let elsewhere = SETTINGS.iter().any(|setting| setting.key == key && setting.group != Group::Agent);
            if elsewhere {
                let why = "this setting is for all agents; want it outside the tables".into();
                own_faults.push(Fault { what: key, source: source.into(), why });
            } else {
                agent.apply_value(&key, value, source, &mut own_faults);
            }
        }
        let renamed = |key: String| format!("{what}.{key}");
        faults.extend(own_faults.into_iter().map(|fault| Fault { what: renamed(fault.what), ..fault }));
        self.set_by.extend(agent.set_by.drain(..).map(|set| SetBy { key: renamed(set.key), ..set }));
        self.agents.insert(name, agent);
    }

    fn apply_value(&mut self, key: &str, value: toml::Value, source: &str, faults: &mut Vec<Fault>) {
        // TOML allows an empty key, which the message has to show.
        let key = if key.is_empty() { "\"\"" } else { key };
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            other if SETTINGS.iter().any(|setting| setting.key == key && setting.list) => match list(other) {
                Ok(text) => text,
                Err(why) => return faults.push(Fault { what: key.into(), source: source.into(), why }),
            },
            other => {
                let why = format!("want a text or a number, got {}", other.type_str());
                return faults.push(Fault { what: key.into(), source: source.into(), why });
            }
        };
        self.apply(key, &value, source, faults);
    }

    fn apply(&mut self, key: &str, value: &str, source: &str, faults: &mut Vec<Fault>) {
        let result = match SETTINGS.iter().find(|setting| setting.key == key) {
            Some(setting) => {
                let value_shown = setting.shown(value);
                self.set_by.push(SetBy { key: key.into(), value: value_shown.clone(), source: source.into() });
                setting.apply(self, value).map_err(|why| format!("`{value_shown}` is not usable: {why}"))
            }
            None => Err(format!("no such setting; the settings are {}", known_keys())),
        };
        if let Err(why) = result {
            faults.push(Fault { what: key.into(), source: source.into(), why });
        }
    }

    fn check(&self, faults: &mut Vec<Fault>) {
        let mut refuse = |what: &str, why: String| {
            faults.push(Fault { what: what.into(), source: "all sources together".into(), why });
        };
        let all = std::iter::once((None, self)).chain(self.agents.iter().map(|(name, agent)| (Some(name), agent)));
        for (name, config) in all {
            let what = name.map_or_else(|| "memory-limit".into(), |name| format!("{AGENTS}.{name}.memory-limit"));
            if config.agent.limits.memory_bytes < 64 << 10 {
                refuse(&what, "want 64KiB or more: a WebAssembly page is 64KiB".into());
            }
        }
        if self.agent.limits.stack_bytes < 16 << 10 {
            refuse("stack-limit", "want 16KiB or more".into());
        }
        if self.dispatcher.store_bytes_max < 1 << 20 {
            refuse("store-limit", "want 1MiB or more".into());
        }
        match (&self.dispatcher.tls_cert, &self.dispatcher.tls_key) {
            (Some(_), None) => refuse("tls-cert", "want `tls-key` too".into()),
            (None, Some(_)) => refuse("tls-key", "want `tls-cert` too".into()),
            _ => {}
        }
        if self.webhook.is_some() && (self.livekit.api_key.is_none() || self.livekit.api_secret.is_none()) {
            refuse("webhook", "want `api-key` and `api-secret` too: they sign the posts".into());
        }
    }
}

/// The entries of a list, one a line.
fn list(value: toml::Value) -> Result<String, String> {
    let text = |value| match value {
        toml::Value::String(text) if !text.contains('\n') => Ok(text),
        toml::Value::String(_) => Err("want entries of one line".to_owned()),
        other => Err(format!("want texts, got {}", other.type_str())),
    };
    let lines: Vec<String> = match value {
        toml::Value::Array(entries) => entries.into_iter().map(text).collect::<Result<_, _>>()?,
        toml::Value::Table(table) => {
            let pair = |(name, value)| Ok(format!("{name}={}", text(value)?));
            table.into_iter().map(pair).collect::<Result<_, String>>()?
        }
        other => return Err(format!("want a text, an array or a table of texts, got {}", other.type_str())),
    };
    Ok(lines.join("\n"))
}

/// The position and the cause of a syntax error, without the line itself: it may contain a secret.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    format!("not TOML: line {line}, column {column}: {}", error.message())
}

fn known_keys() -> String {
    SETTINGS.iter().map(|setting| format!("`{}`", setting.key)).collect::<Vec<_>>().join(", ")
}

//! Every setting, checked once, all faults at once.
//!
//! [`SETTINGS`] is the only list of them. Later sources win: defaults, file, the agent's own table in it, environment, flags.

mod parse;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use wasm_worker_core::job::JobKind;
use wasm_worker_core::secret::Secret;
use wasm_worker_core::text::plural;
use wasm_worker_dispatcher::settings::{DispatcherSettings, StoreSync};
use wasm_worker_protocol::registration::{Permission, ReportLoad};
use wasm_worker_sandbox::engine::EngineSettings;
use wasm_worker_sandbox::settings::AgentSettings;

pub(crate) use parse::url;
pub use settings::{Group, SETTINGS, Setting};

/// Where events are written, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTarget {
    /// Nowhere but the log.
    Off,
    /// Standard output, between the job records.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the server is, and how the worker introduces itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveKit {
    /// URL of the server.
    pub url: Option<String>,
    /// API key.
    pub api_key: Option<Secret>,
    /// Its secret.
    pub api_secret: Option<Secret>,
    /// Name to register under; nothing is the agent's own.
    pub agent_name: Option<String>,
    /// Deployment to take dispatches of.
    pub deployment: String,
    /// What there is a job for.
    pub job_type: JobKind,
    /// What the server is told of the load.
    pub report_load: ReportLoad,
    /// What an agent may do in its room.
    pub permissions: BTreeSet<Permission>,
    /// How long the assignment of an accepted job is awaited.
    pub assignment_timeout: Duration,
}

/// What a stopped worker does with the jobs that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainPolicy {
    /// Wait for them, for `drain-timeout`.
    Wait,
    /// Ask them to stop at once.
    Ask,
}

/// Where a worker answers HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpBind {
    /// On LiveKit's port for it, or a free one where that is taken; loopback only.
    Auto,
    /// Nowhere.
    Off,
    /// Here, or not at all.
    At(SocketAddr),
}

/// A setting that the file, the environment or a flag has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetBy {
    /// Its key; `agents.NAME.KEY` in an agent's own table.
    pub key: String,
    /// As it was written; secrets are not shown.
    pub value: String,
    /// Where it was set.
    pub source: String,
}

/// Every setting with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What the agents that have a table of their own have instead.
    pub agents: BTreeMap<String, Config>,
    /// What was set, in its order.
    pub set_by: Vec<SetBy>,
    /// Variables of LiveKit's that are not usable. They concern whoever serves: others may have set them for something else.
    pub server_faults: Vec<Fault>,
    /// Where the server is.
    pub livekit: LiveKit,
    /// The dispatcher, where there is no server.
    pub dispatcher: DispatcherSettings,
    /// Worker processes.
    pub workers: usize,
    /// Cores to count on, where the operator knows better.
    pub cores: Option<f64>,
    /// A component that computes the load.
    pub load_function: Option<PathBuf>,
    /// Jobs of one agent that end the same bad way in a row before it gets no more for a while.
    pub failures_max: Option<usize>,
    /// What a stopped worker does with its jobs.
    pub drain: DrainPolicy,
    /// Where it answers HTTP.
    pub http: HttpBind,
    /// What callers have to show.
    pub http_token: Option<Secret>,
    /// Each event is posted there.
    pub webhook: Option<String>,
    /// Each event is a line for this command.
    pub event_command: Option<String>,
    /// What each job of the agent may use, and how it is prewarmed.
    pub agent: AgentSettings,
    /// Jobs that a worker has at once.
    pub max_jobs: usize,
    /// Load at which a worker takes no more jobs.
    pub load_threshold: Option<f64>,
    /// How often a worker logs its load.
    pub load_log: Option<Duration>,
    /// How long a worker that is stopped waits for its jobs before it asks them to stop.
    pub drain_timeout: Duration,
    /// Attempts to reach the server before a worker gives up.
    pub max_retry: usize,
    /// Where compiled agents are kept.
    pub cache_dir: PathBuf,
    /// Where events go besides the log.
    pub events: EventTarget,
    /// `None`: the verb chooses.
    pub log_level: Option<LevelFilter>,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// The table of tables in the file.
const AGENTS: &str = "agents";

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, or the file.
    pub what: String,
    /// Where it was set.
    pub source: String,
    /// What is wrong, and what was wanted.
    pub why: String,
}

/// The settings cannot be used; every fault that was found.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "the configuration has {}", plural(self.faults.len(), "fault"))?;
        for Fault { what, source, why } in &self.faults {
            write!(f, "\n  `{what}` ({source}): {why}")?;
        }
        Ok(())
    }
}

/// One value from the environment or the command line.
pub struct Override {
    /// Key of the setting.
    pub key: &'static str,
    /// As it was written.
    pub value: String,
    /// Where it was set, for messages.
    pub source: String,
}

impl Config {
    /// The defaults, then the file, then the overrides in their order.
    ///
    /// # Errors
    /// When the file cannot be read, or any value is unknown, malformed or contradicts another; all of them at once.
    pub fn load(file: Option<&Path>, overrides: Vec<Override>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut faults = Vec::new();
        if let Some(path) = file {
            config.apply_file(path, &mut faults);
        }
        for Override { key, value, source } in overrides {
            let foreign = SETTINGS.iter().any(|setting| setting.variable == Some(&source));
            let mut server_faults = std::mem::take(&mut config.server_faults);
            config.apply(key, &value, &source, if foreign { &mut server_faults } else { &mut faults });
            config.server_faults = server_faults;
            // What was refused once would be refused for each agent.
            for agent in config.agents.values_mut() {
                agent.apply(key, &value, &source, &mut Vec::new());
            }
        }
        config.check(&mut faults);
        if faults.is_empty() {
            return Ok(config);
        }
        faults.append(&mut config.server_faults);
        Err(ConfigError { faults })
    }

    /// For whoever serves.
    ///
    /// # Errors
    /// When a variable of LiveKit's is not usable.
    pub fn check_server(&self) -> Result<(), ConfigError> {
        let faults = self.server_faults.clone();
        if faults.is_empty() { Ok(()) } else { Err(ConfigError { faults }) }
    }

    /// The settings of an engine for `jobs` jobs at once of all agents.
    pub fn engine_settings(&self, jobs: u32) -> EngineSettings {
        let agents = std::iter::once(self).chain(self.agents.values()).map(|config| &config.agent);
        EngineSettings::for_jobs(jobs, u32::from(self.load_function.is_some()), agents)
    }

    /// What holds for one agent.
    pub fn of_agent(&self, name: &str) -> &Self {
        self.agents.get(name).unwrap_or(self)
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

    /// An agent's own table: the settings of the whole file, and these.
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
                let why = "one setting for all agents; want it outside of the table".into();
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
        // TOML takes an empty key, and whoever wrote one is to see which it is.
        let key = if key.is_empty() { "\"\"" } else { key };
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
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
                (setting.set)(self, value).map_err(|why| format!("`{value_shown}` is not usable: {why}"))
            }
            None => Err(format!("no such setting; known are {}", known_keys())),
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
            if config.agent.limits.memory_bytes < 64 << 10 || config.agent.limits.memory_bytes > 4 << 30 {
                refuse(&what, "want 64KiB to 4GiB: a WebAssembly page is 64KiB, a memory at most 4GiB".into());
            }
        }
        let limits = &self.agent.limits;
        if limits.stack_bytes < 16 << 10 || limits.stack_bytes > 64 << 20 {
            refuse("stack-limit", "want 16KiB to 64MiB".into());
        }
        if self.dispatcher.store_bytes_max < 1 << 20 {
            refuse("store-limit", "want 1MiB or more".into());
        }
        if self.webhook.is_some() && (self.livekit.api_key.is_none() || self.livekit.api_secret.is_none()) {
            refuse("webhook", "want `api-key` and `api-secret` too: its posts are signed with them".into());
        }
    }
}

/// Where and why, without the line itself: a secret may stand there.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    format!("not TOML: line {line}, column {column}: {}", error.message())
}

impl Default for Config {
    /// Each setting's own default; a test checks that all of them parse.
    fn default() -> Self {
        let mut config = Self {
            agents: BTreeMap::new(),
            set_by: Vec::new(),
            server_faults: Vec::new(),
            livekit: LiveKit::default(),
            dispatcher: DispatcherSettings {
                listen: (Ipv4Addr::LOCALHOST, 0).into(),
                keys: None,
                store: default_store(),
                store_sync: StoreSync::Commit,
                store_bytes_max: 0,
                retention: Duration::ZERO,
                queue: true,
                queue_limit: 0,
                queue_memory_bytes: 0,
                queue_deadline: Duration::ZERO,
                attempts_max: 0,
                lost_after: Duration::ZERO,
                rate: None,
                metadata_bytes_max: 0,
            },
            workers: 1,
            cores: None,
            load_function: None,
            failures_max: None,
            drain: DrainPolicy::Wait,
            http: HttpBind::Auto,
            http_token: None,
            webhook: None,
            event_command: None,
            agent: AgentSettings::default(),
            max_jobs: 0,
            load_threshold: None,
            load_log: None,
            drain_timeout: Duration::ZERO,
            max_retry: 0,
            cache_dir: default_cache_dir(),
            events: EventTarget::Off,
            log_level: None,
            log_format: LogFormat::Text,
        };
        for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
            let set = (setting.set)(&mut config, setting.default);
            debug_assert_eq!(set, Ok(()), "{}", setting.key);
        }
        config
    }
}

fn known_keys() -> String {
    SETTINGS.iter().map(|setting| format!("`{}`", setting.key)).collect::<Vec<_>>().join(", ")
}

fn default_cache_dir() -> PathBuf {
    user_dir("XDG_CACHE_HOME", ".cache")
}

/// A store is not a cache: what is in it was promised to somebody.
fn default_store() -> PathBuf {
    user_dir("XDG_DATA_HOME", ".local/share").join("dispatcher.db")
}

fn user_dir(variable: &str, in_home: &str) -> PathBuf {
    let base = std::env::var_os(variable).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    base.or_else(|| std::env::home_dir().map(|home| home.join(in_home)))
        .unwrap_or_else(std::env::temp_dir)
        .join("wasm-worker")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &'static str, value: &str) -> Override {
        Override { key, value: value.into(), source: "flag".into() }
    }

    #[test]
    fn every_default_parses() {
        assert!(Config::load(None, Vec::new()).is_ok());
        let defaults = Config::default();
        assert_eq!(defaults.agent, AgentSettings::default(), "the defaults of the sandbox are those of the settings");
        assert_eq!(defaults.agent.limits.unresponsive_timeout, Duration::from_secs(10));
        assert_eq!((defaults.agent.limits.memory_bytes, defaults.agent.limits.fuel), (128 << 20, None));
    }

    #[test]
    fn later_sources_win() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.toml");
        std::fs::write(&file, "fuel-limit = \"10M\"\nhandle-limit = 7\n").unwrap();
        let config = Config::load(Some(&file), vec![set("fuel-limit", "2k"), set("fuel-limit", "3k")]).unwrap();
        assert_eq!(config.agent.limits.fuel, Some(3_000));
        assert_eq!(config.agent.limits.handles, 7);
    }

    #[test]
    fn an_agent_s_own_table_is_beside_the_file_and_under_the_flags() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text =
            "fuel-limit = \"10M\"\nload-threshold = 0.5\n[agents.greeter]\nfuel-limit = \"1M\"\nagent-name = \"hi\"\n";
        std::fs::write(file.path(), text).unwrap();
        let config = Config::load(Some(file.path()), vec![set("log-rate", "7")]).unwrap();
        assert_eq!(
            (config.of_agent("greeter").agent.limits.fuel, config.of_agent("other").agent.limits.fuel),
            (Some(1_000_000), Some(10_000_000))
        );
        assert_eq!(config.of_agent("greeter").livekit.agent_name.as_deref(), Some("hi"));
        assert_eq!(config.of_agent("greeter").agent.limits.log_lines_per_second, 7);
        assert_eq!((config.load_threshold, config.of_agent("other").livekit.agent_name.as_deref()), (Some(0.5), None));
        assert_eq!(config.set_by.last().unwrap().key, "log-rate");
        assert_eq!(config.set_by[2].key, "agents.greeter.agent-name");
        std::fs::write(file.path(), "[agents]\na = 1\n[agents.b]\nmax-jobs = 3\nfuel-limit = \"x\"\n").unwrap();
        let error = Config::load(Some(file.path()), Vec::new()).unwrap_err().to_string();
        for part in
            ["3 faults", "`agents.a` (", "`agents.b.max-jobs` (", "outside of the table", "`agents.b.fuel-limit` ("]
        {
            assert!(error.contains(part), "{part} is missing in:\n{error}");
        }
    }

    #[test]
    fn secrets_are_shown_nowhere() {
        let hidden = ["api-key", "api-secret", "http-token"].map(|key| set(key, "hunter2"));
        let config = Config::load(None, hidden.into()).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.toml");
        std::fs::write(&file, "memory = 1\ninit-timeout = 10\nprewarm = true\n").unwrap();
        let error = Config::load(Some(&file), vec![set("stack-limit", "1GiB")]).unwrap_err().to_string();
        for part in [
            "4 faults",
            "`memory` (",
            "no such setting",
            "`init-timeout`",
            "`10` is not usable: want a time above zero with its unit",
            "`prewarm`",
            "want a text or a number, got boolean",
            "`stack-limit` (all sources together): want 16KiB to 64MiB",
        ] {
            assert!(error.contains(part), "{part} is missing in:\n{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_value_says_it_is_taken_or_refused(row in 0..SETTINGS.len(), value in "[0-9]{0,25}[a-zA-Z .:-]{0,4}|.{0,30}") {
            let key = SETTINGS[row].key;
            if let Err(error) = Config::load(None, vec![set(key, &value)]) {
                proptest::prop_assert!(error.faults.iter().all(|fault| fault.what == key), "{}", error);
            }
        }

        #[test]
        fn whatever_the_file_says_it_is_read_or_refused(text in "([a-z-]{1,20} = ([0-9]{1,30}|\"[0-9a-zA-Z]{0,9}\"|true)\n){0,4}|.{0,80}") {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&file, &text).unwrap();
            if let Err(error) = Config::load(Some(file.path()), Vec::new()) {
                let from = [file.path().to_str().unwrap(), "all sources together"];
                proptest::prop_assert!(error.faults.iter().all(|fault| from.contains(&fault.source.as_str())), "{}", error);
            }
        }
    }
}

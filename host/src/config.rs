//! All settings, checked once, with all faults reported at once.
//!
//! [`SETTINGS`] is the only list of settings.

mod fault;
mod grants;
mod parse;

mod setting;
mod settings;

mod load;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::geteuid;
use tracing::level_filters::LevelFilter;
use wasm_worker_core::job::JobKind;
use wasm_worker_core::secret::Secret;
use wasm_worker_dispatcher::settings::{DispatcherSettings, StoreSync};
use wasm_worker_protocol::registration::{Permission, ReportLoad};
use wasm_worker_sandbox::engine::EngineSettings;
use wasm_worker_sandbox::settings::AgentSettings;

pub use fault::{ConfigError, Fault};
pub use grants::{Grants, SecretSource};
pub use load::Override;
pub(crate) use parse::{address, url};
pub use setting::{Group, Setting};
pub use settings::SETTINGS;
pub(crate) use variables::{CONFIG_VARIABLE, UnknownVariable, unknown_variables};

/// The file for events, with one JSON object on each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTarget {
    /// No file.
    Off,
    /// Standard output, among the job records.
    Stdout,
    /// A file, to which the lines are appended.
    File(PathBuf),
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object on each line.
    Json,
}

/// The server, and the registration of the worker with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveKit {
    /// URL of the server; none for the embedded dispatcher.
    pub url: Option<String>,
    /// API key.
    pub api_key: Option<Secret>,
    /// API secret.
    pub api_secret: Option<Secret>,
    /// Name to register under; none for the agent's own name.
    pub agent_name: Option<String>,
    /// Deployment whose dispatches the worker takes.
    pub deployment: String,
    /// Kind of jobs to register for.
    pub job_type: JobKind,
    /// Form in which the load is reported.
    pub report_load: ReportLoad,
    /// Permissions of an agent in its room.
    pub permissions: BTreeSet<Permission>,
    /// Time limit for the assignment of an accepted job.
    pub assignment_timeout: Duration,
}

/// The policy of a drain for the jobs that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainPolicy {
    /// The jobs have `drain-timeout` until they are asked to stop.
    Wait,
    /// The jobs are asked to stop at once.
    Ask,
}

/// The address of a worker's HTTP endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpBind {
    /// The port of LiveKit's workers on the loopback interface, or a free port where that one is in use.
    Auto,
    /// No HTTP endpoints.
    Off,
    /// This address.
    At(SocketAddr),
}

/// A setting that the file, the environment or a flag has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetBy {
    /// The key of the setting; `agents.NAME.KEY` in the table of an agent.
    pub key: String,
    /// The value as it was written; hidden for a secret.
    pub value: String,
    /// The file, the variable or the command line that set it.
    pub source: String,
}

/// Limits of all jobs of one agent together, in one worker process. None disables a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quotas {
    /// Jobs at once.
    pub jobs_max: Option<usize>,
    /// CPU cores, on average.
    pub cores_max: Option<f64>,
    /// Bytes a second by HTTP and WebSocket, in both directions together.
    pub network_bytes_per_second: Option<u64>,
    /// Tokens of models in 24 hours, as the agent reports them.
    pub daily_tokens: Option<u64>,
}

/// All settings with their values.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The settings of each agent that has a table of its own.
    pub agents: BTreeMap<String, Config>,
    /// The settings that were set, in order.
    pub set_by: Vec<SetBy>,
    /// Faults in LiveKit's environment variables. Only verbs that serve report them: the variables may be meant for another
    /// program.
    pub server_faults: Vec<Fault>,
    /// The server and the registration with it.
    pub livekit: LiveKit,
    /// The dispatcher, which is used without a server.
    pub dispatcher: DispatcherSettings,
    /// Number of worker processes.
    pub workers: usize,
    /// CPU cores to assume; none for those of the cgroup or the machine.
    pub cores: Option<f64>,
    /// Component that computes the load.
    pub load_function: Option<PathBuf>,
    /// Whether the agent may moderate the room of its job.
    pub moderate: bool,
    /// What the agent may have beside its room.
    pub grants: Grants,
    /// Limits of all jobs of the agent together.
    pub quotas: Quotas,
    /// Equal crashes in a row before an agent pauses; none disables the check.
    pub failures_max: Option<usize>,
    /// Policy of a drain for the jobs that run.
    pub drain: DrainPolicy,
    /// Address of the HTTP endpoints.
    pub http: HttpBind,
    /// Bearer token for endpoints that expose or change state.
    pub http_token: Option<Secret>,
    /// URL to which every event is posted.
    pub webhook: Option<String>,
    /// Shell command that reads every event.
    pub event_command: Option<String>,
    /// Limits of each job of the agent, and its prewarm.
    pub agent: AgentSettings,
    /// Jobs that a worker runs at once.
    pub max_jobs: usize,
    /// Rooms that a worker has open at once; none for as many as jobs.
    pub max_rooms: Option<usize>,
    /// Load at which a worker refuses jobs; none disables the check.
    pub load_threshold: Option<f64>,
    /// Interval at which a worker logs its load.
    pub load_log: Option<Duration>,
    /// Time that a drain waits before it asks the jobs to stop.
    pub drain_timeout: Duration,
    /// Connection attempts in a row that may fail before a worker gives up.
    pub max_retry: usize,
    /// Directory for compiled agents.
    pub cache_dir: PathBuf,
    /// File for events.
    pub events: EventTarget,
    /// Log level; none for the default of the verb.
    pub log_level: Option<LevelFilter>,
    /// The format of log lines.
    pub log_format: LogFormat,
}

impl Config {
    /// The settings of an engine for `jobs` jobs at once of all agents.
    pub fn engine_settings(&self, jobs: u32) -> EngineSettings {
        let agents = std::iter::once(self).chain(self.agents.values()).map(|config| &config.agent);
        EngineSettings::for_jobs(jobs, u32::from(self.load_function.is_some()), agents)
    }

    /// Rooms that a worker has open at once.
    pub fn rooms_max(&self) -> usize {
        self.max_rooms.unwrap_or(self.max_jobs)
    }

    /// The settings of one agent.
    pub fn of_agent(&self, name: &str) -> &Self {
        self.agents.get(name).unwrap_or(self)
    }
}

impl Default for Config {
    /// The defaults of [`SETTINGS`]; a test checks that all of them parse.
    fn default() -> Self {
        let mut config = Self {
            agents: BTreeMap::new(),
            set_by: Vec::new(),
            server_faults: Vec::new(),
            livekit: LiveKit::default(),
            dispatcher: DispatcherSettings {
                listen: (Ipv4Addr::LOCALHOST, 0).into(),
                rtc_port: 0,
                rtc_address: None,
                tls_cert: None,
                tls_key: None,
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
            moderate: false,
            grants: Grants::default(),
            quotas: Quotas::default(),
            failures_max: None,
            drain: DrainPolicy::Wait,
            http: HttpBind::Auto,
            http_token: None,
            webhook: None,
            event_command: None,
            agent: AgentSettings::default(),
            max_jobs: 0,
            max_rooms: None,
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
            let set = setting.apply(&mut config, setting.default);
            debug_assert_eq!(set, Ok(()), "{}", setting.key);
        }
        config
    }
}

fn default_cache_dir() -> PathBuf {
    user_dir("XDG_CACHE_HOME", ".cache")
}

/// The store is data, not a cache: it contains dispatches that callers rely on.
fn default_store() -> PathBuf {
    user_dir("XDG_DATA_HOME", ".local/share").join("dispatcher.db")
}

/// A directory of this program for this user. The specification of these variables says that a relative path does not count.
fn user_dir(variable: &str, in_home: &str) -> PathBuf {
    let absolute = |dir: &PathBuf| dir.is_absolute();
    let base = std::env::var_os(variable).map(PathBuf::from).filter(absolute);
    match base.or_else(|| std::env::home_dir().filter(absolute).map(|home| home.join(in_home))) {
        Some(base) => base.join("wasm-worker"),
        // All users share the directory for temporary files. Cache and store refuse a directory of another user there.
        None => std::env::temp_dir().join(format!("wasm-worker-{}", geteuid().as_raw())),
    }
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
    fn later_sources_replace_earlier_ones() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.toml");
        std::fs::write(&file, "fuel-limit = \"10M\"\nhandle-limit = 7\n").unwrap();
        let config = Config::load(Some(&file), vec![set("fuel-limit", "2k"), set("fuel-limit", "3k")]).unwrap();
        assert_eq!(config.agent.limits.fuel, Some(3_000));
        assert_eq!(config.agent.limits.handles, 7);
    }

    #[test]
    fn the_table_of_an_agent_replaces_the_file_and_flags_replace_the_table() {
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
            ["3 faults", "`agents.a` (", "`agents.b.max-jobs` (", "outside the tables", "`agents.b.fuel-limit` ("]
        {
            assert!(error.contains(part), "{part} is missing in:\n{error}");
        }
    }

    #[test]
    fn no_output_shows_a_secret() {
        let hidden = ["api-key", "api-secret", "http-token"].map(|key| set(key, "hunter2"));
        let config = Config::load(None, hidden.into()).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        let url = Config::load(None, vec![set("url", "ws://ann:hunter2@host")]).unwrap_err().to_string();
        assert!(url.contains("`ws://(secret)@host` is not usable") && !url.contains("hunter2"), "{url}");
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.toml");
        std::fs::write(&file, "memory = 1\ninit-timeout = 10\nprewarm = true\n").unwrap();
        let error = Config::load(Some(&file), vec![set("stack-limit", "1GiB"), set("metadata-limit", "3MiB")])
            .unwrap_err()
            .to_string();
        for part in [
            "5 faults",
            "`memory` (",
            "no such setting",
            "`init-timeout`",
            "`10` is not usable: want a time above zero with its unit",
            "`prewarm`",
            "want a text or a number, got boolean",
            "`stack-limit` (flag): `1GiB` is not usable: want at most 64MiB",
            "`metadata-limit` (flag): `3MiB` is not usable: want at most 768KiB",
        ] {
            assert!(error.contains(part), "{part} is missing in:\n{error}");
        }
    }

    #[test]
    fn every_setting_has_a_largest_value() {
        for setting in SETTINGS {
            let refused = |value: &str| match Config::load(None, vec![set(setting.key, value)]) {
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            };
            if setting.is_text() {
                let bytes = parse::size(setting.largest).unwrap();
                let why = refused(&"x".repeat(bytes + 1)).unwrap_or_default();
                assert!(why.contains("want a text of at most"), "{}: {why}", setting.key);
                continue;
            }
            assert_eq!(refused(setting.largest), None, "{}", setting.key);
            let (number, unit) = setting.largest.split_at(setting.largest.trim_end_matches(char::is_alphabetic).len());
            for more in [format!("{}{unit}", number.parse::<u64>().unwrap() + 1), format!("9{number}{unit}")] {
                let why = refused(&more).unwrap_or_default();
                assert!(why.contains(&format!("want at most {}", setting.largest)), "{} = {more}: {why}", setting.key);
            }
        }
    }

    /// Every time of the settings.
    fn times(config: &Config) -> Vec<Duration> {
        let (limits, dispatcher) = (&config.agent.limits, &config.dispatcher);
        let optional = [limits.max_duration, config.load_log].into_iter().flatten();
        let times = [
            limits.init_timeout,
            limits.unresponsive_warning,
            limits.unresponsive_timeout,
            limits.shutdown_grace,
            config.agent.compile.timeout,
            config.drain_timeout,
            config.livekit.assignment_timeout,
            dispatcher.retention,
            dispatcher.queue_deadline,
            dispatcher.lost_after,
        ];
        times.into_iter().chain(optional).collect()
    }

    proptest::proptest! {
        #[test]
        fn any_accepted_time_can_be_added_to_a_clock(row in 0..SETTINGS.len(), number in "[1-9][0-9]{0,19}", unit in "ms|s|m|h|d|w") {
            let setting = &SETTINGS[row];
            if setting.value == "TIME" && let Ok(config) = Config::load(None, vec![set(setting.key, &format!("{number}{unit}"))]) {
                for time in times(&config) {
                    proptest::prop_assert!(tokio::time::Instant::now().checked_add(time).is_some());
                    proptest::prop_assert!(time <= wasm_worker_core::duration::LONGEST);
                }
            }
        }

        #[test]
        fn any_value_is_accepted_or_refused(row in 0..SETTINGS.len(), value in "[0-9]{0,25}[a-zA-Z .:-]{0,4}|.{0,30}") {
            let key = SETTINGS[row].key;
            if let Err(error) = Config::load(None, vec![set(key, &value)]) {
                proptest::prop_assert!(error.faults.iter().all(|fault| fault.what == key), "{}", error);
            }
        }

        #[test]
        fn any_file_is_accepted_or_refused(text in "([a-z-]{1,20} = ([0-9]{1,30}|\"[0-9a-zA-Z]{0,9}\"|true)\n){0,4}|.{0,80}") {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&file, &text).unwrap();
            if let Err(error) = Config::load(Some(file.path()), Vec::new()) {
                let from = [file.path().to_str().unwrap(), "all sources together"];
                proptest::prop_assert!(error.faults.iter().all(|fault| from.contains(&fault.source.as_str())), "{}", error);
            }
        }
    }
}

//! Every setting, checked once, all faults at once.
//!
//! [`SETTINGS`] is the only list: the flag, the key in the config file, the environment variable, the default and the help
//! text of a setting all come from its row. Later sources win: defaults, file, environment, flags.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use tracing::level_filters::LevelFilter;

/// What one job may use, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// For a prewarm, and for making an instance, start functions included.
    pub init_timeout: Duration,
    /// Run time without waiting after which the operator is warned.
    pub unresponsive_warning: Duration,
    /// Run time without waiting after which the job is killed.
    pub unresponsive_timeout: Duration,
    /// Wall time of one job from its launch.
    pub max_duration: Option<Duration>,
    /// Fuel of one job, about one unit for each WebAssembly instruction.
    pub fuel: Option<u64>,
    /// All memories, tables and host-side buffers of one job together.
    pub memory_bytes: usize,
    /// Stack of WebAssembly frames.
    pub stack_bytes: usize,
    /// Bytes that one host call may copy out of the guest.
    pub hostcall_bytes: usize,
    /// Handles (pollables, streams, receivers) open at once.
    pub handles: usize,
    /// Events that wait in the inbox.
    pub inbox_events: usize,
    /// Log lines a second, and the burst that may come at once.
    pub log_lines_per_second: u32,
    /// From a request to stop until the job is killed.
    pub shutdown_grace: Duration,
}

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

/// How a job gets its prewarmed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrewarmMode {
    /// From a snapshot; where a component allows none, from a pool of instances that ran `prewarm`.
    Snapshot,
    /// Always from the pool.
    Pool,
}

/// Every setting with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What one job may use.
    pub limits: Limits,
    /// How a job gets its prewarmed state.
    pub prewarm: PrewarmMode,
    /// Prewarmed instances kept ready where there is no snapshot.
    pub idle: usize,
    /// Wall time that compiling an agent may take.
    pub compile_timeout: Duration,
    /// Memory that compiling an agent may take.
    pub compile_memory_bytes: usize,
    /// Jobs that a worker has at once.
    pub max_jobs: usize,
    /// Share of the cores in use at which a worker takes no more jobs.
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

/// One row of the list of settings.
pub struct Setting {
    /// Flag and config key; the environment variable is derived from it.
    pub key: &'static str,
    /// As one would write it.
    pub default: &'static str,
    /// Placeholder of the value in the help text.
    pub value: &'static str,
    /// One sentence.
    pub help: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
}

impl Setting {
    /// The environment variable of this setting.
    pub fn env(&self) -> String {
        format!("WASM_WORKER_{}", self.key.replace('-', "_").to_uppercase())
    }
}

macro_rules! setting {
    ($key:literal, $default:literal, $value:literal, $help:literal, $set:expr) => {
        Setting { key: $key, default: $default, value: $value, help: $help, set: $set }
    };
}

/// All settings.
pub const SETTINGS: &[Setting] = &[
    setting!("init-timeout", "10s", "TIME", "Longest prewarm, and longest making of an instance", |c, v| {
        duration(v).map(|d| c.limits.init_timeout = d)
    }),
    setting!("unresponsive-warning", "500ms", "TIME", "Run time without waiting before a warning", |c, v| {
        duration(v).map(|d| c.limits.unresponsive_warning = d)
    }),
    setting!("unresponsive-timeout", "10s", "TIME", "Run time without waiting before a job is killed", |c, v| {
        duration(v).map(|d| c.limits.unresponsive_timeout = d)
    }),
    setting!("max-duration", "none", "TIME", "Longest wall time of a job", |c, v| {
        or_none(v, duration).map(|d| c.limits.max_duration = d)
    }),
    setting!("fuel-limit", "none", "FUEL", "Fuel of one job; one unit is about one instruction (10M, 2G)", |c, v| {
        or_none(v, fuel).map(|f| c.limits.fuel = f)
    }),
    setting!("memory-limit", "128MiB", "SIZE", "Memories, tables and host-side buffers of one job", |c, v| {
        size(v).map(|s| c.limits.memory_bytes = s)
    }),
    setting!("stack-limit", "512KiB", "SIZE", "Stack of one job", |c, v| size(v).map(|s| c.limits.stack_bytes = s)),
    setting!("hostcall-limit", "1MiB", "SIZE", "Bytes that one host call may carry", |c, v| {
        size(v).map(|s| c.limits.hostcall_bytes = s)
    }),
    setting!("handle-limit", "1000", "COUNT", "Handles that one job has open at once", |c, v| {
        count(v).map(|n| c.limits.handles = n)
    }),
    setting!("inbox-limit", "1024", "COUNT", "Events that wait in one job's inbox", |c, v| {
        count(v).map(|n| c.limits.inbox_events = n)
    }),
    setting!("log-rate", "1000", "COUNT", "Log lines a second of one job; more are dropped and counted", |c, v| {
        count(v).and_then(|n| u32::try_from(n).map_err(|_| "more than 4294967295".into())).map(|n| {
            c.limits.log_lines_per_second = n;
        })
    }),
    setting!("shutdown-grace", "10s", "TIME", "From a request to stop until a job is killed", |c, v| {
        duration(v).map(|d| c.limits.shutdown_grace = d)
    }),
    setting!("prewarm", "snapshot", "MODE", "How jobs get prewarmed state: `snapshot` or `pool`", |c, v| {
        c.prewarm = match v {
            "snapshot" => PrewarmMode::Snapshot,
            "pool" => PrewarmMode::Pool,
            _ => return Err("want `snapshot` or `pool`".into()),
        };
        Ok(())
    }),
    setting!("idle", "2", "COUNT", "Prewarmed instances kept ready where there is no snapshot", |c, v| {
        v.parse().map(|n| c.idle = n).map_err(|_| "want a whole number, 0 or more".into())
    }),
    setting!("compile-timeout", "2m", "TIME", "Longest compilation of an agent", |c, v| {
        duration(v).map(|d| c.compile_timeout = d)
    }),
    setting!("compile-memory", "2GiB", "SIZE", "Memory for compiling an agent", |c, v| {
        size(v).map(|s| c.compile_memory_bytes = s)
    }),
    setting!("max-jobs", "1000", "COUNT", "Jobs that a worker has at once", |c, v| count(v).map(|n| c.max_jobs = n)),
    setting!(
        "load-threshold",
        "0.75",
        "SHARE",
        "Share of the cores in use at which a worker takes no more jobs, above 0 to 1; `none`: it does not matter",
        |c, v| or_none(v, share).map(|s| c.load_threshold = s)
    ),
    setting!("load-log", "none", "TIME", "How often a worker logs its load", |c, v| {
        or_none(v, duration).map(|d| c.load_log = d)
    }),
    setting!("drain-timeout", "1h", "TIME", "Wait of a stopped worker before it asks its jobs to stop", |c, v| {
        duration(v).map(|d| c.drain_timeout = d)
    }),
    setting!("max-retry", "16", "COUNT", "Attempts to reach the server before a worker gives up", |c, v| {
        count(v).map(|n| c.max_retry = n)
    }),
    setting!("cache-dir", "", "DIR", "Where compiled agents are kept [default: the user's cache directory]", |c, v| {
        c.cache_dir = if v.is_empty() { default_cache_dir() } else { PathBuf::from(v) };
        Ok(())
    }),
    setting!(
        "events",
        "off",
        "FILE",
        "Append every event as a line of JSON: a file, `-` for stdout, or `off`",
        |c, v| {
            c.events = match v {
                "off" => EventTarget::Off,
                "-" => EventTarget::Stdout,
                file => EventTarget::File(PathBuf::from(file)),
            };
            Ok(())
        }
    ),
    setting!(
        "log-level",
        "",
        "LEVEL",
        "off, error, warn, info, debug or trace [default: info, warn for many jobs]",
        |c, v| {
            c.log_level = if v.is_empty() {
                None
            } else {
                Some(v.parse().map_err(|_| "want off, error, warn, info, debug or trace".to_owned())?)
            };
            Ok(())
        }
    ),
    setting!("log-format", "text", "FORMAT", "`text` or `json`", |c, v| {
        c.log_format = match v {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err("want `text` or `json`".into()),
        };
        Ok(())
    }),
];

/// One thing that is wrong with the settings.
#[derive(Debug, PartialEq, Eq)]
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
            config.apply(key, &value, &source, &mut faults);
        }
        config.check(&mut faults);
        if faults.is_empty() { Ok(config) } else { Err(ConfigError { faults }) }
    }

    fn apply_file(&mut self, path: &Path, faults: &mut Vec<Fault>) {
        let source = path.display().to_string();
        let mut refuse = |why: String| faults.push(Fault { what: "config".into(), source: source.clone(), why });
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return refuse(format!("cannot be read: {error}")),
        };
        let table: toml::Table = match toml::from_str(&text) {
            Ok(table) => table,
            Err(error) => return refuse(format!("not TOML: {}", error.to_string().trim_end())),
        };
        for (key, value) in table {
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                other => {
                    let why = format!("want a text or a number, got {}", other.type_str());
                    faults.push(Fault { what: key, source: source.clone(), why });
                    continue;
                }
            };
            self.apply(&key, &value, &source, faults);
        }
    }

    fn apply(&mut self, key: &str, value: &str, source: &str, faults: &mut Vec<Fault>) {
        let result = match SETTINGS.iter().find(|setting| setting.key == key) {
            Some(setting) => (setting.set)(self, value).map_err(|why| format!("`{value}` is not usable: {why}")),
            None => Err(format!("no such setting; known are {}", known_keys())),
        };
        if let Err(why) = result {
            faults.push(Fault { what: key.into(), source: source.into(), why });
        }
    }

    fn check(&self, faults: &mut Vec<Fault>) {
        let limits = &self.limits;
        let mut refuse = |what: &str, why: String| {
            faults.push(Fault { what: what.into(), source: "all sources together".into(), why });
        };
        if limits.memory_bytes < 64 << 10 || limits.memory_bytes > 4 << 30 {
            refuse("memory-limit", "want 64KiB to 4GiB: a WebAssembly page is 64KiB, a memory at most 4GiB".into());
        }
        if limits.stack_bytes < 16 << 10 || limits.stack_bytes > 64 << 20 {
            refuse("stack-limit", "want 16KiB to 64MiB".into());
        }
    }
}

impl Default for Config {
    /// Each setting's own default; a test checks that all of them parse.
    fn default() -> Self {
        let mut config = Self {
            limits: Limits {
                init_timeout: Duration::ZERO,
                unresponsive_warning: Duration::ZERO,
                unresponsive_timeout: Duration::ZERO,
                max_duration: None,
                fuel: None,
                memory_bytes: 0,
                stack_bytes: 0,
                hostcall_bytes: 0,
                handles: 0,
                inbox_events: 0,
                log_lines_per_second: 0,
                shutdown_grace: Duration::ZERO,
            },
            prewarm: PrewarmMode::Snapshot,
            idle: 0,
            compile_timeout: Duration::ZERO,
            compile_memory_bytes: 0,
            max_jobs: 0,
            load_threshold: None,
            load_log: None,
            drain_timeout: Duration::ZERO,
            max_retry: 0,
            cache_dir: PathBuf::new(),
            events: EventTarget::Off,
            log_level: None,
            log_format: LogFormat::Text,
        };
        let mut faults = Vec::new();
        for setting in SETTINGS {
            config.apply(setting.key, setting.default, "default", &mut faults);
        }
        debug_assert_eq!(faults, []);
        config
    }
}

fn known_keys() -> String {
    SETTINGS.iter().map(|setting| format!("`{}`", setting.key)).collect::<Vec<_>>().join(", ")
}

fn default_cache_dir() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    base.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("wasm-worker")
}

/// `none` is no limit, anything else is parsed.
fn or_none<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == "none" { Ok(None) } else { parse(text).map(Some) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wanted = || "want a time above zero with its unit, such as 500ms, 10s or 2m".to_owned();
    let parsed: SignedDuration = text.parse().map_err(|_| wanted())?;
    Duration::try_from(parsed).ok().filter(|duration| !duration.is_zero()).ok_or_else(wanted)
}

fn size(text: &str) -> Result<usize, String> {
    let wanted = || "want a size above zero, such as 512KiB or 128MiB".to_owned();
    let bytes: ByteSize = text.parse().map_err(|_| wanted())?;
    usize::try_from(bytes.as_u64()).ok().filter(|bytes| *bytes > 0).ok_or_else(wanted)
}

fn fuel(text: &str) -> Result<u64, String> {
    let units = [("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
    let with_unit = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (digits, unit) = with_unit.unwrap_or((text, 1));
    let number: Option<u64> = digits.parse().ok().filter(|number| *number > 0);
    number.and_then(|number| number.checked_mul(unit)).ok_or_else(|| {
        "want a whole number above zero, with k, M or G for a thousand, a million or a thousand million".into()
    })
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "want a whole number above zero".into())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "want a number above 0, up to 1".into())
}

/// `1 fault`, `2 faults`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
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
        assert_eq!(Config::default().limits.unresponsive_timeout, Duration::from_secs(10));
        assert_eq!(Config::default().limits.memory_bytes, 128 << 20);
        assert_eq!(Config::default().limits.fuel, None);
    }

    #[test]
    fn later_sources_win() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.toml");
        std::fs::write(&file, "fuel-limit = \"10M\"\nhandle-limit = 7\n").unwrap();
        let config = Config::load(Some(&file), vec![set("fuel-limit", "2k"), set("fuel-limit", "3k")]).unwrap();
        assert_eq!(config.limits.fuel, Some(3_000));
        assert_eq!(config.limits.handles, 7);
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

    #[test]
    fn units_are_needed_and_checked() {
        assert!(duration("0s").is_err() && duration("-1s").is_err() && duration("fast").is_err());
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(fuel("20000000000G"), Err(fuel("x").unwrap_err()));
        assert_eq!(fuel("10M"), Ok(10_000_000));
        assert!(fuel("10kk").is_err());
        assert_eq!(size("1KiB"), Ok(1024));
        assert!(size("0").is_err() && count("0").is_err());
    }
}

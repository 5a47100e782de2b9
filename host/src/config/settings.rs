//! The list of settings: the flag, the key in the config file, the environment variable, the default and the help text of a
//! setting all come from its row.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::parse::{
    cores, count, deployment, duration, fuel, key_pairs, or_none, permissions, share, size, some_path, some_secret, url,
};
use super::{
    Config, DrainPolicy, EventTarget, HttpBind, JobType, LogFormat, PrewarmMode, ReportLoad, StoreSync,
    default_cache_dir, default_store,
};

/// One row of the list of settings.
pub struct Setting {
    /// Flag and config key.
    pub key: &'static str,
    /// Its environment variable, where LiveKit's has another name than ours would have.
    pub(super) variable: Option<&'static str>,
    /// As one would write it.
    pub default: &'static str,
    /// Placeholder of the value in the help text.
    pub value: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What it belongs to.
    pub group: Group,
    /// Another flag for it, which is shorter.
    pub alias: Option<&'static str>,
    /// Its value is shown nowhere.
    secret: bool,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

/// What settings are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// One agent; may stand in its own table.
    Agent,
    /// The worker process.
    Worker,
    /// The server.
    LiveKit,
    /// The dispatcher that is there when no server is.
    Dispatcher,
    /// What is written where.
    Output,
}

impl Group {
    /// As a heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Agent => "An agent and its jobs",
            Self::Worker => "The worker",
            Self::LiveKit => "LiveKit",
            Self::Dispatcher => "The dispatcher, where there is no server",
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

    const fn of(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    const fn named(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    const fn also(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// A value as it may be shown.
    pub(super) fn shown(&self, value: &str) -> String {
        if self.secret { "(secret)".into() } else { value.into() }
    }
}

macro_rules! setting {
    ($key:literal, $default:literal, $value:literal, $help:literal, $set:expr) => {
        Setting {
            key: $key,
            variable: None,
            default: $default,
            value: $value,
            help: $help,
            group: Group::Agent,
            alias: None,
            secret: false,
            set: $set,
        }
    };
}

/// Processes of one supervisor.
const WORKERS_MAX: usize = 64;

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
    setting!(
        "agent-name",
        "",
        "NAME",
        "Name to register under [default: the agent's]; an empty one gets a job for each room",
        |c, v| {
            c.livekit.agent_name = Some(v.to_owned());
            Ok(())
        }
    )
    .named("LIVEKIT_AGENT_NAME"),
    setting!(
        "failures-max",
        "10",
        "COUNT",
        "Crashes of an agent in a row, all the same, before it gets no jobs for a while; `none`: it does not matter",
        |c, v| { or_none(v, count).map(|n| c.failures_max = n) }
    ),
    setting!("stack-limit", "512KiB", "SIZE", "Stack of one job", |c, v| size(v).map(|s| c.limits.stack_bytes = s))
        .of(Group::Worker),
    setting!("compile-timeout", "2m", "TIME", "Longest compilation of an agent", |c, v| {
        duration(v).map(|d| c.compile_timeout = d)
    })
    .of(Group::Worker),
    setting!("compile-memory", "2GiB", "SIZE", "Memory for compiling an agent", |c, v| {
        size(v).map(|s| c.compile_memory_bytes = s)
    })
    .of(Group::Worker),
    setting!("cache-dir", "", "DIR", "Where compiled agents are kept [default: the user's cache directory]", |c, v| {
        c.cache_dir = if v.is_empty() { default_cache_dir() } else { PathBuf::from(v) };
        Ok(())
    })
    .of(Group::Worker),
    setting!("max-jobs", "1000", "COUNT", "Jobs that a worker has at once", |c, v| count(v).map(|n| c.max_jobs = n))
        .of(Group::Worker),
    setting!("workers", "1", "COUNT", "Worker processes, each registered by itself", |c, v| {
        count(v)
            .ok()
            .filter(|n| *n <= WORKERS_MAX)
            .map(|n| c.workers = n)
            .ok_or_else(|| format!("want 1 to {WORKERS_MAX}"))
    })
    .of(Group::Worker),
    setting!(
        "cores",
        "",
        "CORES",
        "Cores to count on, in parts [default: what the cgroup or the machine has]",
        |c, v| {
            c.cores = if v.is_empty() { None } else { Some(cores(v)?) };
            Ok(())
        }
    )
    .of(Group::Worker)
    .named("NUM_CPUS"),
    setting!(
        "load-threshold",
        "0.75",
        "SHARE",
        "Load at which a worker takes no more jobs, above 0 to 1; `none`: it does not matter",
        |c, v| or_none(v, share).map(|s| c.load_threshold = s)
    )
    .also("threshold")
    .of(Group::Worker),
    setting!(
        "load-fn",
        "",
        "FILE",
        "Component that computes the load [default: the largest of CPU, fuel and memory]",
        |c, v| {
            c.load_function = some_path(v);
            Ok(())
        }
    )
    .of(Group::Worker),
    setting!("load-log", "none", "TIME", "How often a worker logs its load", |c, v| {
        or_none(v, duration).map(|d| c.load_log = d)
    })
    .of(Group::Worker),
    setting!(
        "drain",
        "wait",
        "POLICY",
        "A stopped worker's jobs: `wait` for them, or `ask` them to stop at once",
        |c, v| {
            c.drain = match v {
                "wait" => DrainPolicy::Wait,
                "ask" => DrainPolicy::Ask,
                _ => return Err("want `wait` or `ask`".into()),
            };
            Ok(())
        }
    )
    .of(Group::Worker),
    setting!("drain-timeout", "1h", "TIME", "Wait of a stopped worker before it asks its jobs to stop", |c, v| {
        duration(v).map(|d| c.drain_timeout = d)
    })
    .of(Group::Worker),
    setting!(
        "http",
        "auto",
        "ADDRESS",
        "Where a worker answers HTTP: an address, `off`, or `auto` for port 8081 of 127.0.0.1, or a free one",
        |c, v| {
            c.http = match v {
                "auto" => HttpBind::Auto,
                "off" => HttpBind::Off,
                address => {
                    let parsed = address.parse();
                    HttpBind::At(
                        parsed.map_err(|_| "want an address with a port, such as 127.0.0.1:8081, `off` or `auto`")?,
                    )
                }
            };
            Ok(())
        }
    )
    .of(Group::Worker),
    setting!(
        "http-token",
        "",
        "TOKEN",
        "What callers show for all that reveals or changes [default: made at the start]",
        |c, v| {
            c.http_token = some_secret(v);
            Ok(())
        }
    )
    .of(Group::Worker)
    .secret(),
    setting!("url", "", "URL", "URL of the server, such as ws://localhost:7880", |c, v| {
        c.livekit.url = if v.is_empty() { None } else { Some(url(v, &["ws", "wss", "http", "https"])?) };
        Ok(())
    })
    .of(Group::LiveKit)
    .named("LIVEKIT_URL"),
    setting!("api-key", "", "KEY", "API key", |c, v| {
        c.livekit.api_key = some_secret(v);
        Ok(())
    })
    .of(Group::LiveKit)
    .named("LIVEKIT_API_KEY")
    .secret(),
    setting!(
        "api-secret",
        "",
        "SECRET",
        "API secret; better in the environment, where other users do not see it",
        |c, v| {
            c.livekit.api_secret = some_secret(v);
            Ok(())
        }
    )
    .of(Group::LiveKit)
    .named("LIVEKIT_API_SECRET")
    .secret(),
    setting!("deployment", "", "NAME", "Deployment to take dispatches of", |c, v| {
        deployment(v).map(|name| c.livekit.deployment = name)
    })
    .of(Group::LiveKit)
    .named("LIVEKIT_AGENT_DEPLOYMENT"),
    setting!("job-type", "room", "TYPE", "What there is a job for: `room`, `publisher` or `participant`", |c, v| {
        c.livekit.job_type = match v {
            "room" => JobType::Room,
            "publisher" => JobType::Publisher,
            "participant" => JobType::Participant,
            _ => return Err("want `room`, `publisher` or `participant`".into()),
        };
        Ok(())
    })
    .of(Group::LiveKit),
    setting!(
        "permissions",
        "subscribe,publish,data,metadata",
        "LIST",
        "What an agent may do in its room: `subscribe`, `publish`, `data`, `metadata`; and `hidden`: it is not shown",
        |c, v| permissions(v).map(|set| c.livekit.permissions = set)
    )
    .of(Group::LiveKit),
    setting!("assignment-timeout", "7500ms", "TIME", "How long the assignment of an accepted job is awaited", |c, v| {
        duration(v).map(|d| c.livekit.assignment_timeout = d)
    })
    .of(Group::LiveKit),
    setting!("report-load", "scaled", "FIGURE", "Load that the server is told: `scaled`, which is 0.7 when the worker takes no more, what LiveKit's server takes for full, or `raw`, by which it may take for full a worker that is not", |c, v| {
        c.livekit.report_load = match v {
            "scaled" => ReportLoad::Scaled,
            "raw" => ReportLoad::Raw,
            _ => return Err("want `scaled` or `raw`".into()),
        };
        Ok(())
    })
    .of(Group::LiveKit),
    setting!("max-retry", "16", "COUNT", "Retries to reach the server before a worker gives up", |c, v| {
        count(v).map(|n| c.max_retry = n)
    })
    .of(Group::LiveKit),
    setting!("listen", "127.0.0.1:7880", "ADDRESS", "Where the dispatcher listens", |c, v| {
        let parsed = v.parse().map_err(|_| "want an address with a port, such as 127.0.0.1:7880")?;
        c.dispatcher.listen = parsed;
        Ok(())
    })
    .of(Group::Dispatcher),
    setting!(
        "keys",
        "",
        "PAIRS",
        "API keys and their secrets, `key: secret, key: secret` [default: the API key and its secret; on loopback devkey, secret]",
        |c, v| {
            c.dispatcher.keys = if v.is_empty() { None } else { Some(key_pairs(v)?) };
            Ok(())
        }
    )
    .of(Group::Dispatcher)
    .named("LIVEKIT_KEYS")
    .secret(),
    setting!("store", "", "FILE", "Where dispatches are kept [default: in the user's data directory]", |c, v| {
        c.dispatcher.store = if v.is_empty() { default_store() } else { PathBuf::from(v) };
        Ok(())
    })
    .of(Group::Dispatcher),
    setting!(
        "store-sync",
        "commit",
        "WHEN",
        "When the store is flushed to the disk: with each `commit`, or at a `checkpoint`, which a loss of power may undo",
        |c, v| {
            c.dispatcher.store_sync = match v {
                "commit" => StoreSync::Commit,
                "checkpoint" => StoreSync::Checkpoint,
                _ => return Err("want `commit` or `checkpoint`".into()),
            };
            Ok(())
        }
    )
    .of(Group::Dispatcher),
    setting!("store-limit", "1GiB", "SIZE", "Size of the store; the oldest of what has ended makes room", |c, v| {
        size(v).map(|s| c.dispatcher.store_bytes_max = s)
    })
    .of(Group::Dispatcher),
    setting!("retention", "168h", "TIME", "How long what has ended is kept", |c, v| {
        duration(v).map(|d| c.dispatcher.retention = d)
    })
    .of(Group::Dispatcher),
    setting!(
        "queue",
        "on",
        "MODE",
        "Whether dispatches wait for a worker: `on`, or `off` as with LiveKit's server",
        |c, v| {
            c.dispatcher.queue = match v {
                "on" => true,
                "off" => false,
                _ => return Err("want `on` or `off`".into()),
            };
            Ok(())
        }
    )
    .of(Group::Dispatcher),
    setting!("queue-limit", "10000", "COUNT", "Dispatches of one API key that wait", |c, v| {
        count(v).map(|n| c.dispatcher.queue_limit = n)
    })
    .of(Group::Dispatcher),
    setting!("queue-memory", "256MiB", "SIZE", "Memory of all dispatches that are not over, at most half of `store-limit`", |c, v| {
        size(v).map(|s| c.dispatcher.queue_memory_bytes = s)
    })
    .of(Group::Dispatcher),
    setting!("queue-deadline", "1h", "TIME", "How long a dispatch waits for a worker", |c, v| {
        duration(v).map(|d| c.dispatcher.queue_deadline = d)
    })
    .of(Group::Dispatcher),
    setting!("attempts-max", "3", "COUNT", "Attempts of a dispatch whose workers die", |c, v| {
        let attempts = count(v)?.try_into().map_err(|_| "more than 4294967295".to_owned())?;
        c.dispatcher.attempts_max = attempts;
        Ok(())
    })
    .of(Group::Dispatcher),
    setting!("lost-after", "30s", "TIME", "How long a job waits for its worker to come back", |c, v| {
        duration(v).map(|d| c.dispatcher.lost_after = d)
    })
    .of(Group::Dispatcher),
    setting!("dispatch-rate", "none", "COUNT", "Dispatches a second of one API key", |c, v| {
        let rate = or_none(v, |v| count(v)?.try_into().map_err(|_| "more than 4294967295".to_owned()))?;
        c.dispatcher.rate = rate.and_then(NonZeroU32::new);
        Ok(())
    })
    .of(Group::Dispatcher),
    setting!("metadata-limit", "512KiB", "SIZE", "Metadata of a dispatch or a room", |c, v| {
        size(v).map(|s| c.dispatcher.metadata_bytes_max = s)
    })
    .of(Group::Dispatcher),
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
    )
    .of(Group::Output),
    setting!(
        "webhook",
        "",
        "URL",
        "Post every event there, signed with the API key as LiveKit signs its own",
        |c, v| {
            c.webhook = if v.is_empty() { None } else { Some(url(v, &["http", "https"])?) };
            Ok(())
        }
    )
    .of(Group::Output),
    setting!("event-command", "", "COMMAND", "Shell command that reads every event as a line of JSON", |c, v| {
        c.event_command = if v.is_empty() { None } else { Some(v.to_owned()) };
        Ok(())
    })
    .of(Group::Output),
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
    )
    .of(Group::Output),
    setting!("log-format", "text", "FORMAT", "`text` or `json`", |c, v| {
        c.log_format = match v {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err("want `text` or `json`".into()),
        };
        Ok(())
    })
    .of(Group::Output),
];

//! The list of settings. The row of a setting gives its flag, its key in the config file, its environment variable, its default,
//! its largest value and its help text.

use std::num::NonZeroU32;
use std::path::PathBuf;

use wasm_worker_core::duration::parse as duration;
use wasm_worker_core::job::JobKind;
use wasm_worker_dispatcher::settings::StoreSync;
use wasm_worker_protocol::registration::{ReportLoad, check_deployment};
use wasm_worker_sandbox::settings::PrewarmMode;

use super::grants::{hosts, secrets, settings};
use super::parse::{
    address, cores, count, fuel, key_pairs, or_none, permissions, server_url, set, share, size, some_ip, some_path,
    some_secret, url,
};
use super::setting::{Group, LIST_MAX, Setting, setting};
use super::{DrainPolicy, EventTarget, HttpBind, LogFormat, default_cache_dir, default_store};

/// All settings.
pub const SETTINGS: &[Setting] = &[
    setting!("init-timeout", "10s", "TIME" <= "24h", "Time limit for prewarm and for the creation of an instance", |c, v| {
        duration(v).map(|d| c.agent.limits.init_timeout = d)
    }),
    setting!("unresponsive-warning", "500ms", "TIME" <= "24h", "Run time of one step before a warning", |c, v| {
        duration(v).map(|d| c.agent.limits.unresponsive_warning = d)
    }),
    setting!("unresponsive-timeout", "10s", "TIME" <= "24h", "Run time of one step before the job is killed", |c, v| {
        duration(v).map(|d| c.agent.limits.unresponsive_timeout = d)
    }),
    setting!("max-duration", "none", "TIME" <= "365d", "Wall time limit of a job", |c, v| {
        or_none(v, duration).map(|d| c.agent.limits.max_duration = d)
    }),
    setting!("fuel-limit", "none", "FUEL" <= "1000000000G", "Fuel limit of a job, about one unit for each instruction (10M, 2G)", |c, v| {
        or_none(v, fuel).map(|f| c.agent.limits.fuel = f)
    }),
    setting!("memory-limit", "128MiB", "SIZE" <= "4GiB", "Memory limit of a job: memories, tables and host-side buffers together", |c, v| {
        size(v).map(|s| c.agent.limits.memory_bytes = s)
    }),
    setting!("hostcall-limit", "1MiB", "SIZE" <= "1GiB", "Byte limit of one host call", |c, v| {
        size(v).map(|s| c.agent.limits.hostcall_bytes = s)
    }),
    setting!("handle-limit", "1000", "COUNT" <= "1000000", "Open handles that a job may have at once", |c, v| {
        count(v).map(|n| c.agent.limits.handles = n)
    }),
    setting!("inbox-limit", "1024", "COUNT" <= "1000000", "Events that may wait in the inbox of a job", |c, v| {
        count(v).map(|n| c.agent.limits.inbox_events = n)
    }),
    setting!(
        "room-rate",
        "4MiB",
        "SIZE" <= "1GiB",
        "Bytes a second that a job may send into its room, a quarter of it at once; further ones wait",
        |c, v| size(v).map(|s| c.agent.limits.room_bytes_per_second = s)
    ),
    setting!("log-rate", "1000", "COUNT" <= "1000000", "Log lines a second of a job; further lines are dropped and counted", |c, v| {
        count(v).and_then(|n| u32::try_from(n).map_err(|_| "more than 4294967295".into())).map(|n| {
            c.agent.limits.log_lines_per_second = n;
        })
    }),
    setting!("shutdown-grace", "10s", "TIME" <= "24h", "Time from a stop request until the job is killed", |c, v| {
        duration(v).map(|d| c.agent.limits.shutdown_grace = d)
    }),
    setting!("prewarm", "snapshot", "MODE", "Source of prewarmed state: `snapshot`, or `pool` for instances that ran prewarm", |c, v| {
        c.agent.prewarm = match v {
            "snapshot" => PrewarmMode::Snapshot,
            "pool" => PrewarmMode::Pool,
            _ => return Err("want `snapshot` or `pool`".into()),
        };
        Ok(())
    }),
    setting!("idle", "2", "COUNT" <= "1000", "Prewarmed instances that are kept ready without a snapshot", |c, v| {
        v.parse().map(|n| c.agent.idle = n).map_err(|_| "want a whole number, 0 or more".into())
    }),
    setting!("record", "", "DIR", "Directory for a recording of each job, which `replay` runs again", |c, v| {
        c.agent.record.all = some_path(v);
        Ok(())
    }),
    setting!(
        "record-failed",
        "",
        "DIR",
        "Directory for recordings of jobs that did not end well, without `record`",
        |c, v| {
            c.agent.record.failed = some_path(v);
            Ok(())
        }
    ),
    setting!("record-limit", "64MiB", "SIZE" <= "64GiB", "Size limit of one recording", |c, v| {
        size(v).map(|s| c.agent.record.bytes_max = s)
    }),
    setting!(
        "record-content",
        "on",
        "MODE",
        "Contents in recordings: `on`, or `off` for names and sizes alone, which cannot be replayed",
        |c, v| {
            c.agent.record.content = match v {
                "on" => true,
                "off" => false,
                _ => return Err("want `on` or `off`".into()),
            };
            Ok(())
        }
    ),
    setting!(
        "agent-name",
        "",
        "NAME",
        "Name to register under [default: the agent's name]; an empty name gets a job for each room",
        |c, v| {
            c.livekit.agent_name = Some(v.to_owned());
            Ok(())
        }
    )
    .named("LIVEKIT_AGENT_NAME"),
    setting!(
        "moderate",
        "off",
        "MODE",
        "Moderation by the agent in the room of its job: `on` to remove, move and mute participants and to delete the room, or `off`",
        |c, v| {
            c.moderate = match v {
                "on" => true,
                "off" => false,
                _ => return Err("want `on` or `off`".into()),
            };
            Ok(())
        }
    ),
    setting!(
        "allow-host",
        "",
        "HOST" <= LIST_MAX,
        "Host that the agent may reach, such as `api.example.com`, `*.example.com` or `http://localhost:8080`; may be repeated",
        |c, v| { hosts(v).map(|hosts| c.grants.hosts = hosts) }
    )
    .list(),
    setting!(
        "setting",
        "",
        "NAME=VALUE" <= LIST_MAX,
        "Value of a setting that the agent has; may be repeated",
        |c, v| { settings(v).map(|settings| c.grants.settings = settings) }
    )
    .list(),
    setting!(
        "secret",
        "",
        "NAME=PLACE" <= LIST_MAX,
        "Place of a secret that the agent asks for: `NAME=@FILE` or `NAME=env:VARIABLE`; may be repeated",
        |c, v| { secrets(v).map(|secrets| c.grants.secrets = secrets) }
    )
    .list()
    // Some write the secret itself there.
    .secret(),
    setting!("agent-max-jobs", "none", "COUNT" <= "20000", "Jobs of the agent that a worker runs at once", |c, v| {
        or_none(v, count).map(|n| c.quotas.jobs_max = n)
    }),
    setting!("agent-cores", "none", "CORES" <= "4096", "CPU cores that all jobs of the agent may use, on average over 10 s", |c, v| {
        or_none(v, cores).map(|n| c.quotas.cores_max = n)
    }),
    setting!(
        "egress-rate",
        "none",
        "SIZE" <= "100GiB",
        "Bytes a second that all jobs of the agent may send and receive by HTTP and WebSocket; further ones wait",
        |c, v| or_none(v, size).map(|bytes| c.quotas.network_bytes_per_second = bytes.map(|bytes| bytes as u64))
    ),
    setting!("daily-tokens", "none", "COUNT" <= "1000000000000", "Tokens of models, in and out, that the jobs of the agent may report in 24 hours", |c, v| {
        or_none(v, count).map(|n| c.quotas.daily_tokens = n.map(|n| n as u64))
    }),
    setting!(
        "failures-max",
        "10",
        "COUNT" <= "1000000",
        "Jobs in a row that end with the same crash before the agent pauses; `none` disables the check",
        |c, v| { or_none(v, count).map(|n| c.failures_max = n) }
    ),
    setting!("stack-limit", "512KiB", "SIZE" <= "64MiB", "Stack limit of a job", |c, v| size(v).map(|s| c.agent.limits.stack_bytes = s))
        .of(Group::Worker),
    setting!("compile-timeout", "2m", "TIME" <= "24h", "Time limit for the compilation of an agent", |c, v| {
        duration(v).map(|d| c.agent.compile.timeout = d)
    })
    .of(Group::Worker),
    setting!("compile-memory", "2GiB", "SIZE" <= "1TiB", "Memory limit for the compilation of an agent", |c, v| {
        size(v).map(|s| c.agent.compile.memory_bytes = s)
    })
    .of(Group::Worker),
    setting!("cache-dir", "", "DIR", "Directory for compiled agents [default: in the user's cache directory]", |c, v| {
        c.cache_dir = if v.is_empty() { default_cache_dir() } else { PathBuf::from(v) };
        Ok(())
    })
    .of(Group::Worker),
    setting!("max-jobs", "1000", "COUNT" <= "20000", "Jobs that a worker runs at once", |c, v| count(v).map(|n| c.max_jobs = n))
        .of(Group::Worker),
    setting!("max-rooms", "", "COUNT" <= "20000", "Rooms that a worker has open at once [default: `max-jobs`]", |c, v| {
        c.max_rooms = if v.is_empty() { None } else { Some(count(v)?) };
        Ok(())
    })
    .of(Group::Worker),
    setting!("workers", "1", "COUNT" <= "64", "Worker processes; each registers with the server", |c, v| {
        count(v).map(|n| c.workers = n)
    })
    .of(Group::Worker),
    setting!(
        "cores",
        "",
        "CORES" <= "4096",
        "CPU cores to assume; fractions allowed [default: cores of the cgroup or the machine]",
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
        "SHARE" <= "1",
        "Load above which a worker refuses jobs, above 0 to 1; `none` disables the check",
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
    setting!("load-log", "none", "TIME" <= "24h", "Interval at which a worker logs its load", |c, v| {
        or_none(v, duration).map(|d| c.load_log = d)
    })
    .of(Group::Worker),
    setting!(
        "drain",
        "wait",
        "POLICY",
        "Jobs of a worker that drains: `wait` for them, or `ask` them to stop at once",
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
    setting!("drain-timeout", "1h", "TIME" <= "365d", "Time that a drain waits before it asks the jobs to stop", |c, v| {
        duration(v).map(|d| c.drain_timeout = d)
    })
    .of(Group::Worker),
    setting!(
        "http",
        "auto",
        "ADDRESS",
        "HTTP address of a worker, `off`, or `auto` for 127.0.0.1:8081 or, if that is taken, a free port",
        |c, v| {
            c.http = match v {
                "auto" => HttpBind::Auto,
                "off" => HttpBind::Off,
                text => HttpBind::At(address(text).ok_or("want an address with a port, such as 127.0.0.1:8081, localhost:8081 or :8081, `off` or `auto`")?),
            };
            Ok(())
        }
    )
    .of(Group::Worker),
    setting!(
        "http-token",
        "",
        "TOKEN",
        "Bearer token for endpoints that expose or change state [default: random]",
        |c, v| {
            c.http_token = some_secret(v);
            Ok(())
        }
    )
    .of(Group::Worker)
    .secret(),
    setting!("url", "", "URL", "URL of the server, such as ws://localhost:7880", |c, v| {
        c.livekit.url = if v.is_empty() { None } else { Some(server_url(v)?) };
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
        "API secret; set it in the environment, where other users cannot read it",
        |c, v| {
            c.livekit.api_secret = some_secret(v);
            Ok(())
        }
    )
    .of(Group::LiveKit)
    .named("LIVEKIT_API_SECRET")
    .secret(),
    setting!("deployment", "", "NAME", "Deployment whose dispatches the worker takes", |c, v| {
        check_deployment(v).map(|()| c.livekit.deployment = v.to_owned())
    })
    .of(Group::LiveKit)
    .named("LIVEKIT_AGENT_DEPLOYMENT"),
    setting!("job-type", "room", "TYPE", "LiveKit job type to register for: `room`, `publisher` or `participant`", |c, v| {
        c.livekit.job_type = match v {
            "room" => JobKind::Room,
            "publisher" => JobKind::Publisher,
            "participant" => JobKind::Participant,
            _ => return Err("want `room`, `publisher` or `participant`".into()),
        };
        Ok(())
    })
    .of(Group::LiveKit),
    setting!(
        "permissions",
        "subscribe,publish,data,metadata",
        "LIST",
        "Permissions of an agent in its room: `subscribe`, `publish`, `data`, `metadata`, `hidden`",
        |c, v| permissions(v).map(|set| c.livekit.permissions = set)
    )
    .of(Group::LiveKit),
    setting!("assignment-timeout", "7500ms", "TIME" <= "1h", "Time limit for the assignment of an accepted job", |c, v| {
        duration(v).map(|d| c.livekit.assignment_timeout = d)
    })
    .of(Group::LiveKit),
    setting!("report-load", "scaled", "FIGURE", "Load that is reported to the server: `scaled` maps the threshold to LiveKit's limit of 0.7, `raw` reports the load unchanged", |c, v| {
        c.livekit.report_load = match v {
            "scaled" => ReportLoad::Scaled,
            "raw" => ReportLoad::Raw,
            _ => return Err("want `scaled` or `raw`".into()),
        };
        Ok(())
    })
    .of(Group::LiveKit),
    setting!("max-retry", "16", "COUNT" <= "1000000", "Connection attempts in a row that may fail before a worker gives up", |c, v| {
        count(v).map(|n| c.max_retry = n)
    })
    .of(Group::LiveKit),
    setting!("listen", "127.0.0.1:7880", "ADDRESS", "Address of the dispatcher", |c, v| {
        let wanted = "want an address with a port, such as 127.0.0.1:7880, localhost:7880 or :7880";
        c.dispatcher.listen = address(v).ok_or(wanted)?;
        Ok(())
    })
    .of(Group::Dispatcher),
    setting!("tls-cert", "", "FILE", "PEM file with the certificate for TLS, followed by those of its CA; the dispatcher then serves HTTPS and WSS", |c, v| set(&mut c.dispatcher.tls_cert, Ok(some_path(v))))
    .of(Group::Dispatcher),
    setting!("tls-key", "", "FILE", "PEM file with the private key of `tls-cert`", |c, v| set(&mut c.dispatcher.tls_key, Ok(some_path(v))))
    .of(Group::Dispatcher),
    setting!("rtc-address", "", "IP", "Address at which participants in rooms reach the dispatcher behind NAT, beside its own", |c, v| set(&mut c.dispatcher.rtc_address, some_ip(v)))
    .of(Group::Dispatcher),
    setting!("rtc-port", "0", "PORT" <= "65535", "UDP port of the dispatcher's rooms; 0 for a free one", |c, v| {
        c.dispatcher.rtc_port = v.parse().map_err(|_| "want a port, 0 to 65535")?;
        Ok(())
    })
    .of(Group::Dispatcher),
    setting!(
        "keys",
        "",
        "PAIRS" <= "64KiB",
        "API keys with their secrets, `key: secret, key: secret` [default: the API key; on loopback `devkey: secret`]",
        |c, v| {
            c.dispatcher.keys = if v.is_empty() { None } else { Some(key_pairs(v)?) };
            Ok(())
        }
    )
    .of(Group::Dispatcher)
    .named("LIVEKIT_KEYS")
    .secret(),
    setting!("store", "", "FILE", "File of the dispatcher's store [default: in the user's data directory]", |c, v| {
        c.dispatcher.store = if v.is_empty() { default_store() } else { PathBuf::from(v) };
        Ok(())
    })
    .of(Group::Dispatcher),
    setting!(
        "store-sync",
        "commit",
        "WHEN",
        "Flush of the store to the disk: at each `commit`, or at a `checkpoint`, which may lose the last changes in a power failure",
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
    setting!("store-limit", "1GiB", "SIZE" <= "64TiB", "Size limit of the store; the oldest finished dispatches are deleted first", |c, v| {
        size(v).map(|s| c.dispatcher.store_bytes_max = s)
    })
    .of(Group::Dispatcher),
    setting!("retention", "168h", "TIME" <= "3650d", "Time that finished dispatches are kept", |c, v| {
        duration(v).map(|d| c.dispatcher.retention = d)
    })
    .of(Group::Dispatcher),
    setting!(
        "queue",
        "on",
        "MODE",
        "Queue for dispatches without a worker: `on`, or `off` as in LiveKit's server",
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
    setting!("queue-limit", "10000", "COUNT" <= "1000000", "Dispatches of one API key that may wait", |c, v| {
        count(v).map(|n| c.dispatcher.queue_limit = n)
    })
    .of(Group::Dispatcher),
    setting!("queue-memory", "256MiB", "SIZE" <= "1TiB", "Memory limit of all open dispatches, at most half of `store-limit`", |c, v| {
        size(v).map(|s| c.dispatcher.queue_memory_bytes = s)
    })
    .of(Group::Dispatcher),
    setting!("queue-deadline", "1h", "TIME" <= "365d", "Time that a dispatch may wait for a worker", |c, v| {
        duration(v).map(|d| c.dispatcher.queue_deadline = d)
    })
    .of(Group::Dispatcher),
    setting!("attempts-max", "3", "COUNT" <= "1000", "Attempts at a dispatch, when its workers are lost", |c, v| {
        let attempts = count(v)?.try_into().map_err(|_| "more than 4294967295".to_owned())?;
        c.dispatcher.attempts_max = attempts;
        Ok(())
    })
    .of(Group::Dispatcher),
    setting!("lost-after", "30s", "TIME" <= "24h", "Time that a lost worker has to return before its jobs count as lost", |c, v| {
        duration(v).map(|d| c.dispatcher.lost_after = d)
    })
    .of(Group::Dispatcher),
    setting!("dispatch-rate", "none", "COUNT" <= "1000000", "Dispatches a second of one API key", |c, v| {
        let rate = or_none(v, |v| count(v)?.try_into().map_err(|_| "more than 4294967295".to_owned()))?;
        c.dispatcher.rate = rate.and_then(NonZeroU32::new);
        Ok(())
    })
    .of(Group::Dispatcher),
    setting!("metadata-limit", "512KiB", "SIZE" <= "768KiB", "Size limit of the metadata of a dispatch or a room", |c, v| {
        size(v).map(|s| c.dispatcher.metadata_bytes_max = s)
    })
    .of(Group::Dispatcher),
    setting!(
        "events",
        "off",
        "FILE",
        "File to which every event is appended as a line of JSON; `-` for standard output, or `off`",
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
        "URL to which every event is posted, signed with the API key as LiveKit signs webhooks",
        |c, v| {
            c.webhook = if v.is_empty() { None } else { Some(url(v, &["http", "https"])?) };
            Ok(())
        }
    )
    .of(Group::Output),
    setting!("event-command", "", "COMMAND" <= "64KiB", "Shell command that reads every event as a line of JSON on its standard input", |c, v| {
        c.event_command = if v.is_empty() { None } else { Some(v.to_owned()) };
        Ok(())
    })
    .of(Group::Output),
    setting!(
        "log-level",
        "",
        "LEVEL",
        "Log level: off, error, warn, info, debug or trace [default: info; warn for several jobs]",
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
    setting!("log-format", "text", "FORMAT", "Format of log lines: `text` or `json`", |c, v| {
        c.log_format = match v {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err("want `text` or `json`".into()),
        };
        Ok(())
    })
    .of(Group::Output),
];

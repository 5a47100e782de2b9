//! Everything that is published about jobs and agents: one enum, and where it goes.
//!
//! Every event goes to the log and into the metrics, and to every sink that is set: a file or standard output, a webhook, a
//! command; each gets a line of JSON. A sink never slows a job: lines wait in a bounded queue, a thread of its own passes them
//! on, and what does not fit is counted.
//!
//! Invariant: of what stands above this module in the map, only pure data is named here (a verdict, a usage record).

mod command;
mod dispatcher;
mod lines;
mod sink;
mod webhook;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::config::{Config, EventTarget};
use crate::job::usage::UsageRecord;
use crate::job::verdict::{Class, Code, Verdict};
use crate::metrics::Metrics;
use command::CommandLines;
pub use dispatcher::DispatcherEvent;
use lines::Lines;
use sink::Sink;
use webhook::Webhook;

/// Lines that a slow follower may be behind before it misses some.
const FOLLOWED_LINES: usize = 1_024;

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event")]
pub enum Event {
    /// An agent is compiled and prewarmed, and can take jobs.
    #[serde(rename = "agent.loaded")]
    AgentLoaded {
        /// Its name.
        agent: String,
        /// How jobs get prewarmed state.
        prewarm: &'static str,
        /// Whether it came from the cache.
        cached: bool,
        /// How long loading took.
        took_ms: u64,
    },
    /// An agent cannot take jobs.
    #[serde(rename = "agent.failed")]
    AgentFailed {
        /// Its name.
        agent: String,
        /// Why.
        error: String,
    },
    /// A new version of an agent is there for its next jobs.
    #[serde(rename = "agent.reloaded")]
    AgentReloaded {
        /// Its name.
        agent: String,
    },
    /// An agent gets no jobs for a while, or none until it is loaded anew: it keeps failing.
    #[serde(rename = "agent.unavailable")]
    AgentUnavailable {
        /// Its name.
        agent: String,
        /// What it keeps doing.
        why: String,
        /// When it gets jobs again; nothing: not before it is loaded anew.
        retry_ms: Option<u64>,
    },
    /// It gets jobs again.
    #[serde(rename = "agent.available")]
    AgentAvailable {
        /// Its name.
        agent: String,
    },
    /// A worker process has died, and another one takes its place.
    #[serde(rename = "worker.died")]
    WorkerDied {
        /// Which of them, from 0.
        worker: usize,
        /// How it ended.
        why: String,
        /// Jobs that went with it.
        lost: usize,
        /// When the next one is started; nothing when there is none.
        retry_ms: Option<u64>,
    },
    /// The server knows the worker.
    #[serde(rename = "worker.registered")]
    WorkerRegistered {
        /// The agent that it has jobs for.
        agent: String,
        /// As the server calls it.
        worker: String,
        /// The server's version.
        server: String,
    },
    /// It has as many jobs as it may have, and says so.
    #[serde(rename = "worker.full")]
    WorkerFull {
        /// The agent.
        agent: String,
        /// Its jobs, those that are still being decided on too.
        jobs: usize,
        /// The load, 0 to 1.
        load: f64,
        /// What there is too little of: jobs, CPU, fuel, memory, or the agent itself.
        scarce: &'static str,
    },
    /// It has room again.
    #[serde(rename = "worker.available")]
    WorkerAvailable {
        /// The agent.
        agent: String,
        /// Its jobs.
        jobs: usize,
        /// The load, 0 to 1.
        load: f64,
    },
    /// It takes no more jobs, and waits for those that run.
    #[serde(rename = "worker.draining")]
    WorkerDraining {
        /// The agent.
        agent: String,
        /// Jobs that run.
        jobs: usize,
    },
    /// Its last job has ended.
    #[serde(rename = "worker.drained")]
    WorkerDrained {
        /// The agent.
        agent: String,
        /// Jobs that were asked to stop, or killed.
        cut_short: usize,
    },
    /// The connection to the server is gone, or could not be made. Jobs run on.
    #[serde(rename = "link.lost")]
    LinkLost {
        /// The agent.
        agent: String,
        /// What happened to it.
        why: String,
        /// When the next attempt is made; nothing when there is none.
        retry_ms: Option<u64>,
    },
    /// The server has the worker again.
    #[serde(rename = "link.restored")]
    LinkRestored {
        /// The agent.
        agent: String,
    },
    /// A job was offered and not taken.
    #[serde(rename = "offer.refused")]
    OfferRefused {
        /// The agent that it was offered to.
        agent: String,
        /// The job.
        job: String,
        /// The stable name of the reason.
        reason: &'static str,
        /// The reason in words.
        detail: String,
        /// Whether it may be offered to others.
        terminate: bool,
    },
    /// A job was admitted.
    #[serde(rename = "job.created")]
    JobCreated {
        /// The agent that runs it.
        agent: String,
        /// The job.
        job: String,
        /// Its room.
        room: String,
        /// 1 for the first attempt.
        attempt: u32,
    },
    /// Its instance is made.
    #[serde(rename = "job.started")]
    JobStarted {
        /// The agent that runs it.
        agent: String,
        /// The job.
        job: String,
    },
    /// Its prewarmed state is in place.
    #[serde(rename = "job.ready")]
    JobReady {
        /// The agent that runs it.
        agent: String,
        /// The job.
        job: String,
    },
    /// Its entrypoint is called.
    #[serde(rename = "job.launched")]
    JobLaunched {
        /// The agent that runs it.
        agent: String,
        /// The job.
        job: String,
    },
    /// It is slow to yield, or has used 80 % of a budget.
    #[serde(rename = "job.warning")]
    JobWarning {
        /// The agent that runs it.
        agent: String,
        /// The job.
        job: String,
        /// `unresponsive`, `fuel`, `memory` or `time`.
        about: &'static str,
        /// In words.
        detail: String,
    },
    /// The host ended it by force.
    #[serde(rename = "job.killed")]
    JobKilled {
        /// The agent that ran it.
        agent: String,
        /// The job.
        job: String,
        /// Why, as in its verdict.
        code: Code,
        /// In words.
        detail: String,
    },
    /// It is over.
    #[serde(rename = "job.closed")]
    JobClosed {
        /// The agent that ran it.
        agent: String,
        /// The job.
        job: String,
        /// How it ended.
        verdict: Box<Verdict>,
        /// What it used.
        usage: Box<UsageRecord>,
    },
    /// Of a dispatcher.
    #[serde(untagged)]
    Dispatcher(DispatcherEvent),
}

impl Event {
    /// The stable name, as in the JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AgentLoaded { .. } => "agent.loaded",
            Self::AgentFailed { .. } => "agent.failed",
            Self::AgentReloaded { .. } => "agent.reloaded",
            Self::AgentUnavailable { .. } => "agent.unavailable",
            Self::AgentAvailable { .. } => "agent.available",
            Self::WorkerDied { .. } => "worker.died",
            Self::WorkerRegistered { .. } => "worker.registered",
            Self::WorkerFull { .. } => "worker.full",
            Self::WorkerAvailable { .. } => "worker.available",
            Self::WorkerDraining { .. } => "worker.draining",
            Self::WorkerDrained { .. } => "worker.drained",
            Self::LinkLost { .. } => "link.lost",
            Self::LinkRestored { .. } => "link.restored",
            Self::Dispatcher(event) => event.name(),
            Self::OfferRefused { .. } => "offer.refused",
            Self::JobCreated { .. } => "job.created",
            Self::JobStarted { .. } => "job.started",
            Self::JobReady { .. } => "job.ready",
            Self::JobLaunched { .. } => "job.launched",
            Self::JobWarning { .. } => "job.warning",
            Self::JobKilled { .. } => "job.killed",
            Self::JobClosed { .. } => "job.closed",
        }
    }

    fn log(&self) {
        let name = self.name();
        match self {
            Self::AgentLoaded { agent, prewarm, cached, took_ms } => {
                tracing::info!(target: "host", agent, prewarm, cached, took_ms, "{name}");
            }
            // Whoever wanted the agent says so, and what to do.
            Self::AgentFailed { agent, error } => tracing::debug!(target: "host", agent, error, "{name}"),
            Self::AgentReloaded { agent } | Self::AgentAvailable { agent } | Self::LinkRestored { agent } => {
                tracing::info!(target: "host", agent, "{name}");
            }
            Self::AgentUnavailable { agent, why, retry_ms } => {
                tracing::error!(target: "host", agent, why, retry_ms, "{name}");
            }
            Self::WorkerDied { worker, why, lost, retry_ms } => {
                tracing::error!(target: "host", worker, why, lost, retry_ms, "{name}");
            }
            Self::WorkerRegistered { agent, worker, server } => {
                tracing::info!(target: "host", agent, worker, server, "{name}");
            }
            Self::WorkerFull { agent, jobs, load, scarce } => {
                tracing::warn!(target: "host", agent, jobs, load, scarce, "{name}");
            }
            Self::WorkerAvailable { agent, jobs, load } => tracing::info!(target: "host", agent, jobs, load, "{name}"),
            Self::WorkerDraining { agent, jobs } => tracing::info!(target: "host", agent, jobs, "{name}"),
            Self::WorkerDrained { agent, cut_short } => tracing::info!(target: "host", agent, cut_short, "{name}"),
            Self::LinkLost { agent, why, retry_ms } => tracing::warn!(target: "host", agent, why, retry_ms, "{name}"),
            Self::Dispatcher(event) => event.log(name),
            Self::OfferRefused { agent, job, reason, detail, terminate } => {
                tracing::warn!(target: "host", agent, job, reason, detail, terminate, "{name}");
            }
            Self::JobCreated { agent, job, room, attempt } => {
                tracing::info!(target: "host", agent, job, room, attempt, "{name}");
            }
            Self::JobStarted { agent, job } | Self::JobReady { agent, job } | Self::JobLaunched { agent, job } => {
                tracing::info!(target: "host", agent, job, "{name}");
            }
            Self::JobWarning { agent, job, about, detail } => {
                tracing::warn!(target: "host", agent, job, about, detail, "{name}");
            }
            Self::JobKilled { agent, job, code, detail } => {
                tracing::error!(target: "host", agent, job, %code, detail, "{name}");
            }
            Self::JobClosed { agent, job, verdict, usage } => {
                let (code, detail, fuel) = (verdict.code, verdict.detail.as_str(), usage.fuel);
                match code.class() {
                    Class::Ok => tracing::info!(target: "host", agent, job, %code, fuel, "{name}"),
                    Class::Host => tracing::error!(target: "host", agent, job, %code, detail, "{name}"),
                    _ => tracing::warn!(target: "host", agent, job, %code, detail, "{name}"),
                }
            }
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    #[serde(flatten)]
    event: &'a Event,
}

/// An event sink cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The file cannot be opened for appending.
    #[error("the event file `{}` cannot be opened", path.display())]
    Open {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No thread for it.
    #[error("the event writer cannot start")]
    Thread(#[source] io::Error),
}

/// Where events are published.
pub struct Events {
    sinks: Vec<Sink>,
    metrics: Option<Arc<Metrics>>,
    /// Whoever follows them at the moment.
    followers: broadcast::Sender<Arc<str>>,
}

impl Events {
    /// Open the sink.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(target: &EventTarget) -> Result<Self, EventsError> {
        let out: Option<Box<dyn Write + Send>> = match target {
            EventTarget::Off => None,
            EventTarget::Stdout => Some(Box::new(io::stdout())),
            EventTarget::File(path) => Some(Box::new(open_for_appending(path)?)),
        };
        let lines = out.map(Lines::new);
        let sinks = lines.map(|lines| Sink::start("file", lines).map_err(EventsError::Thread)).transpose()?;
        let (followers, _) = broadcast::channel(FOLLOWED_LINES);
        Ok(Self { sinks: sinks.into_iter().collect(), metrics: None, followers })
    }

    /// Open every sink that is set.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(crate) fn open_all(config: &Config) -> Result<Self, EventsError> {
        let mut events = Self::open(&config.events)?;
        if let Some(webhook) = Webhook::new(config) {
            events.sinks.push(Sink::start("webhook", webhook).map_err(EventsError::Thread)?);
        }
        if let Some(command) = &config.event_command {
            events.sinks.push(Sink::start("command", CommandLines::new(command)).map_err(EventsError::Thread)?);
        }
        Ok(events)
    }

    /// Count what is published, too.
    pub(crate) fn counted(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Publish one event to every sink. Never waits, and a sink that panics concerns neither the others nor the job.
    pub fn publish(&self, event: &Event) {
        guarded(|| event.log());
        if let Some(metrics) = &self.metrics {
            guarded(|| metrics.observe(event));
        }
        if self.sinks.is_empty() && self.followers.receiver_count() == 0 {
            return;
        }
        guarded(|| match serde_json::to_string(&Line { at: Timestamp::now(), event }) {
            Ok(line) => self.relay(line.into()),
            Err(error) => tracing::error!(target: "host", %error, "an event cannot be written"),
        });
    }

    /// Pass on a line that another process has published.
    pub(crate) fn relay(&self, line: Arc<str>) {
        for sink in &self.sinks {
            sink.send(line.clone());
        }
        // Nobody need follow.
        drop(self.followers.send(line));
    }

    /// Follow what is published from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<str>> {
        self.followers.subscribe()
    }

    /// Have every sink pass on what it has, and take no more. Waits for some seconds at most, and then says what was lost.
    pub(crate) fn close(&self) {
        std::thread::scope(|scope| {
            for sink in &self.sinks {
                scope.spawn(|| sink.close());
            }
        });
    }

    /// Of each sink: its name, the lines it was too slow for, and those it could not write.
    pub(crate) fn losses(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        self.sinks.iter().map(Sink::losses)
    }
}

/// The panic hook has said what there is to say; the log itself may be what panicked.
fn guarded(sink: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(sink)));
}

fn open_for_appending(path: &PathBuf) -> Result<File, EventsError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| EventsError::Open { path: path.clone(), source })
}

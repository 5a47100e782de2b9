//! Everything that is published about jobs and agents: one enum, and where it goes.
//!
//! Every event goes to the log, and where one is set to a file or standard output as a line of JSON. A sink never slows a
//! job: lines wait in a queue of [`QUEUE_LINES`], a thread of its own writes them, and what does not fit is counted.
//!
//! Invariant: of what stands above this module in the map, only pure data is named here (a verdict, a usage record).

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use jiff::Timestamp;
use serde::Serialize;

use crate::config::EventTarget;
use crate::job::usage::UsageRecord;
use crate::job::verdict::{Class, Code, Verdict};

/// Lines that wait for a slow sink before more are dropped.
const QUEUE_LINES: usize = 16_384;

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
        /// Share of the cores in use.
        cpu: f64,
    },
    /// It has room again.
    #[serde(rename = "worker.available")]
    WorkerAvailable {
        /// The agent.
        agent: String,
        /// Its jobs.
        jobs: usize,
        /// Share of the cores in use.
        cpu: f64,
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
}

impl Event {
    /// The stable name, as in the JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AgentLoaded { .. } => "agent.loaded",
            Self::AgentFailed { .. } => "agent.failed",
            Self::WorkerRegistered { .. } => "worker.registered",
            Self::WorkerFull { .. } => "worker.full",
            Self::WorkerAvailable { .. } => "worker.available",
            Self::WorkerDraining { .. } => "worker.draining",
            Self::WorkerDrained { .. } => "worker.drained",
            Self::LinkLost { .. } => "link.lost",
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
            Self::WorkerRegistered { agent, worker, server } => {
                tracing::info!(target: "host", agent, worker, server, "{name}");
            }
            Self::WorkerFull { agent, jobs, cpu } => tracing::warn!(target: "host", agent, jobs, cpu, "{name}"),
            Self::WorkerAvailable { agent, jobs, cpu } => tracing::info!(target: "host", agent, jobs, cpu, "{name}"),
            Self::WorkerDraining { agent, jobs } => tracing::info!(target: "host", agent, jobs, "{name}"),
            Self::WorkerDrained { agent, cut_short } => tracing::info!(target: "host", agent, cut_short, "{name}"),
            Self::LinkLost { agent, why, retry_ms } => tracing::warn!(target: "host", agent, why, retry_ms, "{name}"),
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

/// The event sink cannot be opened.
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
    writer: Option<Writer>,
}

impl Events {
    /// Open the sink.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(target: &EventTarget) -> Result<Self, EventsError> {
        let out: Box<dyn Write + Send> = match target {
            EventTarget::Off => return Ok(Self { writer: None }),
            EventTarget::Stdout => Box::new(io::stdout()),
            EventTarget::File(path) => Box::new(BufWriter::new(open_for_appending(path)?)),
        };
        Ok(Self { writer: Some(Writer::start(out).map_err(EventsError::Thread)?) })
    }

    /// Publish one event to every sink. Never waits, and a sink that panics concerns neither the others nor the job.
    pub fn publish(&self, event: &Event) {
        guarded(|| event.log());
        if let Some(writer) = &self.writer {
            guarded(|| writer.send(&Line { at: Timestamp::now(), event }));
        }
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

/// A thread that writes lines, and the queue before it. Dropping it writes what is queued.
struct Writer {
    queue: Option<SyncSender<String>>,
    dropped: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(out: Box<dyn Write + Send>) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let thread = std::thread::Builder::new().name("events".into()).spawn(move || write_lines(out, &lines))?;
        Ok(Self { queue: Some(queue), dropped: AtomicU64::new(0), thread: Some(thread) })
    }

    fn send(&self, line: &Line<'_>) {
        let sent = serde_json::to_string(line).ok().zip(self.queue.as_ref()).map(|(mut text, queue)| {
            text.push('\n');
            queue.try_send(text)
        });
        if !matches!(sent, Some(Ok(()))) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Goes on after a failure, because a full disk may have room again.
fn write_lines(mut out: Box<dyn Write + Send>, lines: &Receiver<String>) {
    let mut failures = 0_u64;
    while let Ok(line) = lines.recv() {
        let mut write = || -> io::Result<()> {
            out.write_all(line.as_bytes())?;
            for line in lines.try_iter() {
                out.write_all(line.as_bytes())?;
            }
            out.flush()
        };
        if let Err(error) = write() {
            if failures == 0 {
                tracing::error!(target: "host", %error, "writing events failed; trying on");
            }
            failures += 1;
        }
    }
    if failures > 0 {
        tracing::error!(target: "host", failures, "writes of events failed");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(target: "host", "the event writer panicked");
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            tracing::error!(target: "host", dropped, "events were dropped: the sink was too slow, full or gone");
        }
    }
}

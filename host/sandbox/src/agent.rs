//! One loaded agent: from a component's bytes to the template that its jobs are made from.
//!
//! An agent that loads has been instantiated once, so a job that is admitted can be run.

pub mod artifact;
pub mod cargo;
pub mod compile;
mod load;
pub mod load_function;
mod pool;
mod prewarm;
pub mod source;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasm_worker_core::job::Acceptance;
use wasm_worker_core::record::{JobRecord, LogLine};
use wasm_worker_core::usage::micros;

use crate::engine::{Engine, EngineError};
use crate::hostcalls::control::{Control, StopBy};
use crate::job::admission::{Offer, admit};
use crate::job::instance::Template;
use crate::job::run::Crash;
use crate::job::supervisor::supervise;
use crate::settings::AgentSettings;
use artifact::Cache;
use compile::Compiler;
use load::Loader;
use pool::Refill;
use source::Source;
use wasm_worker_core::event::Event;
use wasm_worker_core::observer::Events;
use wasm_worker_core::refusal::Refusal;
use wasm_worker_core::verdict::Verdict;

/// How jobs get their prewarmed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrewarmKind {
    /// From a snapshot of its memory.
    Snapshot,
    /// From instances that ran `prewarm`, one for each job.
    Pool,
}

impl PrewarmKind {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Pool => "pool",
        }
    }
}

/// What is known about a loaded agent; kept in the cache beside its code.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Facts {
    /// Interfaces that the component imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Size of the component as it was given, in bytes.
    pub component_bytes: usize,
    /// Size of the component with its prewarmed memory, in bytes; 0 without a snapshot.
    pub snapshot_bytes: usize,
    /// Size of the machine code, in bytes.
    pub compiled_bytes: usize,
    /// Linear memory that each job starts with, in bytes.
    pub memory_start_bytes: u64,
    /// Memory mappings of the process that each job takes, at most; the kernel bounds how many there are.
    pub memory_mappings: u32,
    /// How jobs get prewarmed state.
    pub prewarm: PrewarmKind,
    /// Why it is not a snapshot.
    pub prewarm_why: Option<String>,
    /// Fuel that `prewarm` took.
    pub prewarm_fuel: u64,
    /// CPU time that `prewarm` took, in microseconds.
    pub prewarm_cpu_us: u64,
}

/// An agent cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Not a component at all.
    #[error("agent `{agent}` is not a WebAssembly component: {why}")]
    NotComponent {
        /// Its name.
        agent: String,
        /// What it is instead.
        why: String,
    },
    /// A component that the engine does not take.
    #[error("agent `{agent}` is not a component that can run here: {why}")]
    Invalid {
        /// Its name.
        agent: String,
        /// What the engine says.
        why: String,
    },
    /// One that takes too much to compile.
    #[error("agent `{agent}` cannot be compiled here: {why}")]
    TooMuch {
        /// Its name.
        agent: String,
        /// What was used up.
        why: String,
    },
    /// It wants what agents may not have.
    #[error("agent `{agent}` imports what agents may not have: {}", imports.join(", "))]
    Imports {
        /// Its name.
        agent: String,
        /// All of them.
        imports: Vec<String>,
    },
    /// It is not of our world.
    #[error("agent `{agent}` does not implement `wasm-worker:agent`: {why}")]
    World {
        /// Its name.
        agent: String,
        /// What is missing or different.
        why: String,
    },
    /// One instance of it takes more than the engine has.
    #[error("agent `{agent}` has more memories or tables than one job may have")]
    TooManyMemories {
        /// Its name.
        agent: String,
    },
    /// It has segments of elements that each instance would have a copy of, outside of its memory.
    #[error(
        "agent `{agent}` has {count} elements in passive segments; at most {} are allowed",
        load::PASSIVE_ELEMENTS_MAX
    )]
    Elements {
        /// Its name.
        agent: String,
        /// How many.
        count: usize,
    },
    /// It cannot be prewarmed, or no instance can be made of it.
    #[error("agent `{agent}` cannot take jobs: {}: {}", verdict.code, verdict.detail)]
    Init {
        /// Its name.
        agent: String,
        /// As a job's would be.
        verdict: Box<Verdict>,
    },
    /// The kernel does not let one process have as many of its instances as the worker was asked for.
    #[error("agent `{agent}` takes too many memory mappings")]
    Mappings {
        /// Its name.
        agent: String,
        /// How many there are.
        source: EngineError,
    },
    /// A failure of ours.
    #[error("agent `{agent}` could not be loaded: {why}")]
    Host {
        /// Its name.
        agent: String,
        /// What failed.
        why: String,
    },
}

impl AgentError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotComponent { .. } => Some(
                "`wasm-worker build DIR` makes a component of a crate; `wasm-worker new NAME` makes such a crate"
                    .into(),
            ),
            Self::World { .. } => Some(
                "an agent exports `prewarm`, `decide`, `entrypoint` and `shutdown`; the SDK's `agent!` macro does that"
                    .into(),
            ),
            Self::Imports { .. } => {
                Some("agents have no files, sockets or processes; see guest-sdk/wit for what they have".into())
            }
            Self::TooMuch { .. } => {
                Some("raise --compile-timeout or --compile-memory, if the agent is one that you trust".into())
            }
            Self::Init { verdict, .. } => Some(verdict.code.advice().into()),
            Self::Mappings { source, .. } => source.hint(),
            Self::Invalid { .. } => Some(
                "the file may be cut short, or use what no agent may; `wasm-worker build DIR` makes a component that runs here"
                    .into(),
            ),
            Self::TooManyMemories { .. } | Self::Elements { .. } | Self::Host { .. } => None,
        }
    }
}

/// An agent that can take jobs.
pub struct Agent {
    facts: Facts,
    template: Arc<Template>,
    /// Fills the shelf, where there is one; ends with the agent.
    _refill: Option<Refill>,
}

/// A job that the agent wants. Its room is given back when this is dropped.
pub struct Accepted {
    /// How the agent wants to appear in the room.
    pub acceptance: Acceptance,
    launch: oneshot::Sender<Instant>,
    running: Running,
}

impl Accepted {
    /// Run it, whether or not anybody waits for it.
    pub fn launch(self) -> Running {
        // Where the guests' runtime is gone, the end of the job says so.
        self.launch.send(Instant::now()).ok();
        self.running
    }
}

/// A job that runs.
pub struct Running {
    control: Arc<Control>,
    closed: oneshot::Receiver<JobRecord>,
}

impl Running {
    /// A handle to stop it with, beside waiting for it.
    pub fn handle(&self) -> JobHandle {
        JobHandle(self.control.clone())
    }

    /// Wait for its end. `None` when the runtime of the guests is gone.
    pub async fn closed(self) -> Option<JobRecord> {
        self.closed.await.ok()
    }
}

/// Stops one job.
#[derive(Clone)]
pub struct JobHandle(Arc<Control>);

impl JobHandle {
    /// Ask it to stop, within its grace.
    pub fn stop(&self, by: StopBy, reason: &str) {
        self.0.ask_to_stop(by, reason);
    }

    /// What it has used so far: CPU time, and time spent waiting, in microseconds.
    pub fn used(&self) -> (u64, u64) {
        (micros(self.0.clock.cpu()), micros(self.0.clock.waited()))
    }

    /// The kept log lines of the job whose number is `after` or higher, the oldest first, and the number of older lines that
    /// are no longer kept. Once the job has ended its lines are in its record, and no longer here.
    pub fn log_lines(&self, after: u64) -> (Vec<LogLine>, u64) {
        self.0.log().kept.read(after)
    }

    /// End it now.
    pub fn kill(&self) {
        self.0.kill_by_operator();
    }
}

impl Agent {
    /// Load a component: from the cache, or by checking, prewarming and compiling it. Without a compiler it is compiled in
    /// this very process, where nothing bounds what that takes.
    ///
    /// # Errors
    /// When it is not an agent, may not have what it imports, or cannot be prewarmed.
    pub async fn load(
        engine: &Engine,
        source: Source,
        settings: &AgentSettings,
        cache: Option<&Cache>,
        compiler: Option<&Compiler>,
        events: &Events,
    ) -> Result<Self, AgentError> {
        let began = Instant::now();
        let name = source.name.clone();
        let loaded = Loader { engine, name: &name, settings, cache, compiler }.load(source).await;
        match loaded {
            Ok((agent, cached)) => {
                events.publish(&Event::AgentLoaded {
                    agent: name,
                    prewarm: agent.facts.prewarm.as_str(),
                    cached,
                    took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                });
                Ok(agent)
            }
            Err(error) => {
                events.publish(&Event::AgentFailed { agent: name, error: error.to_string() });
                Err(error)
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.template.agent
    }

    /// What is known about it.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Offer a job to the agent; when it accepts, the job runs, whether or not anybody waits for it.
    ///
    /// # Errors
    /// When the agent refuses, or cannot decide.
    pub async fn offer(&self, offer: Offer, events: &Arc<Events>) -> Result<Running, Refusal> {
        let (_, running) = self.ask(offer, events, None).await?;
        Ok(running)
    }

    /// Have the agent decide on a job. What it accepts holds its room until it is launched or dropped.
    ///
    /// # Errors
    /// When the agent refuses, or cannot decide.
    pub async fn decide(&self, offer: Offer, events: &Arc<Events>) -> Result<Accepted, Refusal> {
        let (launch, go) = oneshot::channel();
        let (acceptance, running) = self.ask(offer, events, Some(go)).await?;
        Ok(Accepted { acceptance, launch, running })
    }

    /// Admit a job, and run it: at once where there is nothing to wait for, so that it is not queued a second time.
    async fn ask(
        &self,
        offer: Offer,
        events: &Arc<Events>,
        go: Option<oneshot::Receiver<Instant>>,
    ) -> Result<(Acceptance, Running), Refusal> {
        let (agent, job) = (offer.info.agent_name.clone(), offer.info.id.clone());
        let (admitted, answer) = oneshot::channel();
        let (closed, end) = oneshot::channel();
        let (template, for_job) = (self.template.clone(), events.clone());
        self.template.engine.guests().spawn(async move {
            let job = match admit(template, offer).await {
                Err(refusal) => return drop(admitted.send(Err(refusal))),
                Ok(job) => job,
            };
            // Whoever offered it may have given up meanwhile; then nobody runs a job that was counted as refused.
            if admitted.send(Ok((job.acceptance.clone(), job.instance.control()))).is_err() {
                return;
            }
            let launched = match go {
                None => Some(Instant::now()),
                Some(go) => go.await.ok(),
            };
            if let Some(launched) = launched {
                drop(closed.send(supervise(job, launched, for_job).await));
            }
        });
        let lost = || Refusal::decide_failed(Crash::Host("the task that ran the offer ended".into()).verdict());
        match answer.await.unwrap_or_else(|_| Err(lost())) {
            Ok((acceptance, control)) => Ok((acceptance, Running { control, closed: end })),
            Err(refusal) => {
                events.publish(&Event::offer_refused(agent, job, &refusal));
                Err(refusal)
            }
        }
    }
}

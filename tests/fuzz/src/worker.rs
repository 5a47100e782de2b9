//! One worker for all inputs of a process, and what must hold for every job it runs, whatever the agent.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use wasm_worker::agent::artifact::Cache;
use wasm_worker::agent::source::Source;
use wasm_worker::agent::{Agent, AgentError};
use wasm_worker::config::{Config, EventTarget, Override, SETTINGS};
use wasm_worker::engine::{Engine, EngineSettings};
use wasm_worker::events::Events;
use wasm_worker::job::spec::JobSpec;
use wasm_worker::job::teardown::Closed;
use wasm_worker::job::verdict::{Code, Verdict};
use wasm_worker::runtimes::Runtimes;

/// Small, so that an input takes milliseconds.
const LIMITS: &[(&str, &str)] = &[
    ("fuel-limit", "20M"),
    ("memory-limit", "16MiB"),
    ("hostcall-limit", "64KiB"),
    ("handle-limit", "100"),
    ("inbox-limit", "100"),
    ("max-duration", "300ms"),
    ("init-timeout", "300ms"),
    ("unresponsive-timeout", "200ms"),
    ("shutdown-grace", "100ms"),
    ("idle", "0"),
];
/// All of the above, and a machine that is busy with something else.
const WALL_MAX: Duration = Duration::from_secs(20);

/// An engine and what goes with it.
pub struct Worker {
    runtimes: Runtimes,
    engine: Engine,
    events: Arc<Events>,
    config: Config,
    /// One input at a time, so that what is left of the pool is that input's doing.
    turn: Mutex<()>,
}

/// The one of this process.
pub fn worker() -> &'static Worker {
    static WORKER: OnceLock<Worker> = OnceLock::new();
    WORKER.get_or_init(|| {
        let overrides = LIMITS.iter().map(|(key, value)| {
            let key = SETTINGS.iter().find(|setting| setting.key == *key).unwrap().key;
            Override { key, value: (*value).into(), source: "fuzz".into() }
        });
        let config = Config::load(None, overrides.collect()).unwrap();
        let runtimes = Runtimes::start().unwrap();
        let settings = EngineSettings::for_jobs(1, &config);
        let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone()).unwrap();
        let events = Arc::new(Events::open(&EventTarget::Off).unwrap());
        Worker { runtimes, engine, events, config, turn: Mutex::default() }
    })
}

impl Worker {
    /// Load an agent and offer it a job. `None` when it is no agent, or refused.
    pub fn whole_job(&self, component: Vec<u8>, job: JobSpec, cache: Option<&Cache>) -> Option<Closed> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = self.runtimes.block_on(async {
            let source = Source { name: "fuzz".into(), bytes: component };
            let agent = Agent::load(&self.engine, source, &self.config, cache, None, &self.events).await;
            let agent = agent.map_err(|error| check_error(&error)).ok()?;
            self.job(&agent, job).await
        });
        let pool = self.engine.pool();
        assert_eq!((pool.slots, pool.instances, pool.memories, pool.tables, pool.stacks), (0, 0, 0, 0, 0));
        closed
    }

    /// An agent for many inputs.
    pub fn load(&self, component: Vec<u8>) -> Agent {
        let source = Source { name: "fuzz".into(), bytes: component };
        let load = Agent::load(&self.engine, source, &self.config, None, None, &self.events);
        self.runtimes.block_on(load).unwrap()
    }

    /// Offer a job to such an agent.
    pub fn one_job(&self, agent: &Agent, job: JobSpec) -> Option<Closed> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = self.runtimes.block_on(self.job(agent, job));
        assert_eq!(self.engine.pool().slots, 0);
        closed
    }

    async fn job(&self, agent: &Agent, job: JobSpec) -> Option<Closed> {
        let offered = agent.offer(job.into_offers("fuzz")(), &self.events).await;
        let running = offered.map_err(|refusal| refusal.verdict.iter().for_each(|verdict| check(verdict))).ok()?;
        let closed = running.closed().await.expect("a job without a verdict");
        check(&closed.verdict);
        let (limits, usage) = (&self.config.limits, &closed.usage);
        assert!(usage.memory_peak_bytes <= limits.memory_bytes, "{usage:?}");
        assert!(usage.fuel <= limits.fuel.unwrap_or(u64::MAX), "{usage:?}");
        assert!(Duration::from_micros(usage.wall_us) < WALL_MAX, "{usage:?}");
        Some(closed)
    }
}

/// Whatever it is, it is the agent's fault, and said in words.
fn check_error(error: &AgentError) {
    match error {
        AgentError::Host { .. } => panic!("{error}"),
        AgentError::Init { verdict, .. } => check(verdict),
        _ => assert!(error.to_string().contains("`fuzz`"), "{error}"),
    }
}

fn check(verdict: &Verdict) {
    assert!(!matches!(verdict.code, Code::HostFault | Code::Lost), "{verdict:?}");
}

//! One worker for all inputs of a process, and what must hold for every job it runs, whatever the agent.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use wasm_worker::config::{Config, EventTarget, Override, SETTINGS};
use wasm_worker::observers::{EventLines, publisher};
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::verdict::{Code, Verdict};
use wasm_worker_sandbox::agent::artifact::Cache;
use wasm_worker_sandbox::agent::source::{Format, Source};
use wasm_worker_sandbox::agent::{Agent, AgentError};
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::job::spec::JobSpec;
use wasm_worker_sandbox::runtimes::Runtimes;
use wasm_worker_sandbox::scenario::{Outcome, Scenario};
use wasm_worker_sandbox::settings::Limits;

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
/// Fuel of a scenario's job, so that an agent that wakes up for ever comes to an end.
const PLAY_FUEL: u64 = 500_000;
/// All of the above, and a machine that is busy with something else.
const WALL_MAX: Duration = Duration::from_secs(120);

/// Whatever an agent does, and whatever is kept for the next.
const RESIDENT_BYTES_MAX: usize = 2 << 30;
const PAGE_BYTES: usize = 4 << 10;
const LOOK_EVERY: Duration = Duration::from_micros(100);
const LOOKS_MAX: usize = 1_000_000;

/// An engine and what goes with it.
pub struct Worker {
    runtimes: Runtimes,
    engine: Engine,
    events: Arc<Events>,
    /// Where they are written; without a name, so that it goes with the process.
    published: File,
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
        let settings = config.engine_settings(1);
        let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone()).unwrap();
        let published = tempfile::tempfile().unwrap();
        let events = publisher(&EventLines::open(&EventTarget::File(path_of(&published))).unwrap(), None);
        Worker { runtimes, engine, events, published, config, turn: Mutex::default() }
    })
}

impl Worker {
    /// Load an agent and offer it a job. `None` when it is no agent, or refused.
    pub fn whole_job(&self, component: Vec<u8>, job: JobSpec, cache: Option<&Cache>) -> Option<JobRecord> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = self.runtimes.block_on(async {
            let source = Source { name: "fuzz".into(), bytes: component, format: Format::Binary };
            let agent = Agent::load(&self.engine, source, &self.config.agent, cache, None, &self.events).await;
            let agent = agent.map_err(|error| check_error(&error)).ok()?;
            self.job(&agent, job).await
        });
        let pool = self.engine.pool();
        assert_eq!((pool.slots, pool.instances, pool.memories, pool.tables, pool.stacks), (0, 0, 0, 0, 0));
        closed
    }

    /// An agent for many inputs.
    pub fn load(&self, component: Vec<u8>) -> Agent {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let source = Source { name: "fuzz".into(), bytes: component, format: Format::Binary };
        let load = Agent::load(&self.engine, source, &self.config.agent, None, None, &self.events);
        self.runtimes.block_on(load).unwrap()
    }

    /// Offer a job to such an agent.
    pub fn one_job(&self, agent: &Agent, job: JobSpec) -> Option<JobRecord> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = self.runtimes.block_on(self.job(agent, job));
        assert_eq!(self.engine.pool().slots, 0);
        closed
    }

    /// Play a scenario with such an agent. `None` where it wants more than the settings allow.
    pub fn play(&self, agent: &Agent, scenario: &Scenario) -> Option<Outcome> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = &self.config.agent.limits;
        let changed = scenario.limits(limits).ok()?.unwrap_or_else(|| limits.clone());
        // Virtual time costs nothing but the steps in it.
        let limits = Limits { fuel: Some(PLAY_FUEL), max_duration: None, ..changed };
        let outcome = self.runtimes.block_on(agent.play(scenario, Some(limits), &self.events, |_| ()));
        if let Some(record) = &outcome.record {
            check(&record.verdict);
            self.check_published(&record.job);
        }
        assert_eq!(self.engine.pool().slots, 0);
        Some(outcome)
    }

    async fn job(&self, agent: &Agent, job: JobSpec) -> Option<JobRecord> {
        let offered = agent.offer(job.into_offers("fuzz")(), &self.events).await;
        let running = offered.map_err(|refusal| refusal.verdict.iter().for_each(|verdict| check(verdict))).ok()?;
        let closed = running.closed().await.expect("a job without a verdict");
        check(&closed.verdict);
        let (limits, usage) = (&self.config.agent.limits, &closed.usage);
        assert!(usage.memory_peak_bytes <= limits.memory_bytes, "{usage:?}");
        assert!(closed.verdict.code != Code::OutOfFuel || Some(usage.fuel) == limits.fuel, "{usage:?}");
        assert!(Duration::from_micros(usage.wall_us) < WALL_MAX, "{usage:?}");
        assert!(resident_bytes() < RESIDENT_BYTES_MAX, "{} bytes are resident", resident_bytes());
        self.check_published(&closed.job);
        Some(closed)
    }

    /// The job's end was published once, and no other's since the last one's.
    fn check_published(&self, job: &str) {
        // A thread of its own writes them.
        let looks = std::iter::repeat_with(|| self.published_ends()).take(LOOKS_MAX);
        let ends = looks.inspect(|_| std::thread::park_timeout(LOOK_EVERY)).find(|ends| !ends.is_empty());
        let ends = ends.expect("the end of a job was not published");
        assert!(ends.len() == 1 && ends[0].contains(job), "the end of {job} and others: {ends:?}");
        self.published.set_len(0).unwrap();
    }

    /// Whoever reads a file while it is written may find half of the last line.
    fn published_ends(&self) -> Vec<String> {
        let text = std::fs::read_to_string(path_of(&self.published)).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter(|line| line.contains(r#""event":"job.closed""#)).map(str::to_owned).collect()
    }
}

fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * PAGE_BYTES
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

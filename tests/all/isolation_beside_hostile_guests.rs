//! A thousand good jobs beside every hostile guest: each good job ends as it does alone, and nothing leaks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasm_worker::config::{Config, EventTarget, Override, SETTINGS};
use wasm_worker::observers::{EventLines, publisher};
use wasm_worker_core::observer::Events;
use wasm_worker_sandbox::agent::artifact::Cache;
use wasm_worker_sandbox::agent::{Agent, AgentError, source};
use wasm_worker_sandbox::engine::{Engine, EngineSettings};
use wasm_worker_sandbox::job::spec::JobSpec;
use wasm_worker_sandbox::machine;
use wasm_worker_sandbox::runtimes::Runtimes;

use crate::hostile_guests::{CORPUS, Row};
use crate::support::harness::{cache_dir, eventually, guest, in_a_process_of_its_own};

const GOOD_JOBS: usize = 1_000;
const SLOTS: u32 = 1_010;
/// Five of these are a good job's life, in milliseconds: most of it is waiting, as an agent's is, also on a slow machine.
const PAUSE_MS: &str = "3000";

/// Descriptors and resident memory are those of a process, and other tests share this one.
#[test]
fn thousand_good_jobs_are_unaffected_by_the_hostile_corpus() {
    guest("neighbour");
    println!("{}", in_a_process_of_its_own("isolation_beside_hostile_guests::good_jobs_run_beside_the_corpus"));
}

/// What a good job came to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Came {
    code: &'static str,
    fuel: u64,
    texts: Vec<String>,
}

struct Worker {
    engine: Engine,
    events: Arc<Events>,
    cache: Cache,
}

impl Worker {
    async fn load(&self, name: &str, flags: &[&'static str]) -> Result<Agent, AgentError> {
        let overrides = flags.chunks(2).map(|flag| {
            let key = SETTINGS.iter().find(|setting| flag[0] == format!("--{}", setting.key)).unwrap().key;
            Override { key, value: flag[1].into(), source: "test".to_owned() }
        });
        let config = Config::load(None, overrides.collect()).unwrap();
        let source = source::read(&guest(name)).unwrap();
        Agent::load(&self.engine, source, &config.agent, Some(&self.cache), None, &self.events).await
    }

    async fn good(&self, agent: &Agent) -> Came {
        let spec = JobSpec { metadata: PAUSE_MS.into(), ..JobSpec::default() };
        let running = agent.offer(spec.into_offers("neighbour")(), &self.events).await.unwrap();
        let closed = running.closed().await.unwrap();
        let texts = closed.activity.texts.into_iter().map(|sent| sent.text).collect();
        Came { code: closed.verdict.code.as_str(), fuel: closed.usage.fuel, texts }
    }

    async fn hostile(&self, row: &Row) {
        let mut flags = row.flags.to_vec();
        // A loop beside so many jobs takes long to have run for its limit; its grace must not end first.
        if row.code == "unresponsive" {
            flags.extend(["--shutdown-grace", "2m"]);
        }
        let code = match self.load(row.guest, &flags).await {
            Err(AgentError::Init { verdict, .. }) => verdict.code,
            Err(error) => panic!("{}: {error}", row.guest),
            Ok(agent) => match agent.offer(JobSpec::default().into_offers(row.guest)(), &self.events).await {
                Ok(running) => running.closed().await.unwrap().verdict.code,
                Err(refusal) => refusal.verdict.unwrap().code,
            },
        };
        assert_eq!(code.as_str(), row.code, "{}", row.guest);
    }

    /// The whole corpus, while a thousand good jobs run: where one ends, the next begins, until the last hostile one has ended.
    /// How many that were.
    async fn round(&self, alone: &Came) -> usize {
        let agent = self.load("neighbour", &[]).await.unwrap();
        let over = AtomicBool::new(false);
        let lane = async || {
            let mut came = vec![self.good(&agent).await];
            while !over.load(Ordering::Relaxed) {
                came.push(self.good(&agent).await);
            }
            came
        };
        let good = futures_util::future::join_all((0..GOOD_JOBS).map(|_| lane()));
        let corpus = async {
            for row in CORPUS {
                self.hostile(row).await;
            }
            over.store(true, Ordering::Relaxed);
        };
        let (came, ()) = futures_util::future::join(good, corpus).await;
        let came = came.concat();
        let differing: Vec<&Came> = came.iter().filter(|came| *came != alone).collect();
        assert!(
            differing.is_empty(),
            "{} of {} differ from {alone:?}: {:?}",
            differing.len(),
            came.len(),
            differing[0]
        );
        came.len()
    }
}

fn resident_pages() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse().unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir(Path::new("/proc/self/fd")).unwrap().count()
}

#[test]
#[ignore = "the test above runs it in a process of its own"]
fn good_jobs_run_beside_the_corpus() {
    // As the program does it.
    machine::return_large_buffers();
    let runtimes = Runtimes::start().unwrap();
    let limits = Config::default().agent.limits;
    let settings = EngineSettings { slots: SLOTS, memory_bytes: limits.memory_bytes, stack_bytes: limits.stack_bytes };
    let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone()).unwrap();
    let events = publisher(&EventLines::open(&EventTarget::Off).unwrap(), None);
    let worker = Worker { engine, events, cache: Cache::open(cache_dir()).unwrap() };
    let alone = runtimes.block_on(async { worker.good(&worker.load("neighbour", &[]).await.unwrap()).await });
    assert_eq!((alone.code, alone.texts.len()), ("completed", 5));

    // Before, so that what slots keep for their next job (256 KiB of a memory, 16 KiB of a stack) is there already. Which slots
    // the hostile jobs take depends on the time, so two rounds do not always reach them all.
    for _ in 0..3 {
        runtimes.block_on(worker.round(&alone));
    }
    let (idle, resident, open) = (worker.engine.pool(), resident_pages(), descriptors());
    let good = runtimes.block_on(worker.round(&alone));

    let (hostile, fuel, after) = (CORPUS.len(), alone.fuel, resident_pages());
    println!("{good} good jobs, {GOOD_JOBS} at a time, beside {hostile} hostile ones: {fuel} fuel in each, as alone");
    println!("resident before {resident} pages, after {after} pages");
    assert_eq!((idle.slots, idle.instances, idle.memories, idle.stacks), (0, 0, 0, 0));
    assert_eq!(worker.engine.pool(), idle);
    assert_eq!(descriptors(), open);
    assert!(after * 100 <= resident * 105, "{resident} pages became {after}");
    eventually("the last task ends", || (runtimes.guests().metrics().num_alive_tasks() == 0).then_some(()));
}

//! One agent in Rust, C, JavaScript and Python, built by the tools of each language: `cargo bench --bench languages`, ten minutes,
//! most of them for the tools and for the compilation of two large components.
//!
//! A turn is a text of three words and its answer in six parts, 10 ms after one another: some eight steps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    dead_code,
    reason = "a bench that cannot run says why by panicking, its output is data, and the tests use the rest of the modules"
)]

mod common;
#[path = "../all/support/toolchains.rs"]
mod toolchains;

use std::path::Path;
use std::time::Duration;

use common::Worker;
use futures_util::future::join_all;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::time::Instant;
use toolchains::Language;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::verdict::Code;
use wasm_worker_sandbox::agent::artifact::Cache;
use wasm_worker_sandbox::agent::{Agent, cargo};
use wasm_worker_sandbox::job::launch::Running;
use wasm_worker_sandbox::job::spec::JobSpec;

const RUST: &str = "Rust";
const LANGUAGES: [Language; 3] = [Language::C, Language::JavaScript, Language::Python];
/// Jobs that wait at once.
const WAITING: u32 = 200;
/// Turns of the jobs that talk, and how many of these there are, one after another.
const TURNS: u64 = 10;
const TALKS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, name, agent] = &arguments[..]
        && flag == "--row"
    {
        return row(name, &std::fs::read(agent).unwrap());
    }
    // `cargo test --benches` only wants to know that it starts.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    println!(
        "{:<11} {:>9} {:>9} {:>20} {:>10} {:>9} {:>13} {:>7} {:>10} {:>9}",
        "",
        "component",
        "code",
        "load: CPU, wall",
        "from cache",
        "memory",
        "a waiting job",
        "start",
        "fuel/turn",
        "CPU/turn"
    );
    let foreign = LANGUAGES.into_iter().filter_map(|language| Some((format!("{language:?}"), language.agent()?)));
    for (name, agent) in [(RUST.to_owned(), rust_agent())].into_iter().chain(foreign) {
        // Each in a process of its own: memory that one has given back would be there for the next.
        let mut row = std::process::Command::new(std::env::current_exe().unwrap());
        assert!(row.args(["--row", &name]).arg(agent).status().unwrap().success(), "{name}");
    }
}

/// What the tools report where they are missing.
fn skip(what: &str, why: &str) {
    println!("skipped: `{what}`: {why}");
}

/// The talker of `tests/guests`.
fn rust_agent() -> std::path::PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
    let built = cargo::component_build(&dir).unwrap().args(["--example", "talker"]).status().unwrap();
    assert!(built.success(), "the guest does not compile");
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(3).unwrap().join(cargo::TARGET).join("agent/examples/talker.wasm")
}

/// Print what one agent takes.
fn row(name: &str, component: &[u8]) {
    let worker = Worker::new(WAITING, &[("compile-timeout", "30m")]);
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let (cpu, began) = (cpu_time(), Instant::now());
    drop(worker.load(component, Some(&cache)));
    let (load_cpu, load) = (cpu_time() - cpu, began.elapsed());
    let began = Instant::now();
    let agent = worker.load(component, Some(&cache));
    let from_cache = began.elapsed();

    let quiet = talks(&worker, &agent, 0);
    let busy = talks(&worker, &agent, TURNS);
    let a_turn = |of: fn(&JobRecord) -> u64| (median(&busy, of) - median(&quiet, of)) / TURNS;
    let (fuel, cpu) = (a_turn(|job| job.usage.fuel), a_turn(|job| job.usage.cpu_us));
    let start = median(&quiet, |job| job.usage.start_us.unwrap());
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let facts = agent.facts();
    println!(
        "{name:<11} {:>9} {:>9} {:>20} {:>10} {:>9} {:>10.0} kB {start:>4} µs {fuel:>10} {cpu:>6} µs",
        mebibytes(facts.component_bytes as u64),
        mebibytes(facts.compiled_bytes as u64),
        format!("{load_cpu:.1?}, {load:.1?}"),
        format!("{from_cache:.0?}"),
        mebibytes(facts.memory_start_bytes),
        waiting(&worker, &agent),
    );
    if let Some(why) = &facts.prewarm_why {
        println!("            no snapshot: {why}");
    }
    drop(agent);
    worker.runtimes.shut_down();
}

/// Jobs with this many turns.
fn talks(worker: &Worker, agent: &Agent, turns: u64) -> Vec<JobRecord> {
    let turn = json!({ "after_ms": 120, "event": { "text": { "sender": "ann", "text": "hello big world" } } });
    let bye = json!({ "after_ms": 120, "event": { "text": { "sender": "ann", "text": "bye" } } });
    let inbox: Vec<_> = (0..turns).map(|_| turn.clone()).chain([bye]).collect();
    (0..TALKS)
        .map(|_| {
            let running = worker.runtimes.block_on(agent.offer(spec(&inbox).into_offers("bench")(), &worker.events));
            let closed = worker.runtimes.block_on(running.unwrap().closed()).unwrap();
            assert_eq!(closed.verdict.code, Code::Completed, "{:?}", closed.verdict);
            closed
        })
        .collect()
}

fn spec(inbox: &[Value]) -> JobSpec {
    JobSpec::parse(&json!({ "participants": [{ "identity": "ann" }], "inbox": inbox }).to_string()).unwrap()
}

fn median(jobs: &[JobRecord], of: fn(&JobRecord) -> u64) -> u64 {
    let mut values: Vec<u64> = jobs.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// Kilobytes that the process has for itself, for each job that has greeted somebody and waits.
fn waiting(worker: &Worker, agent: &Agent) -> f64 {
    let late = json!({ "after_ms": 3_600_000, "event": { "terminate": { "reason": "late" } } });
    let before = private_kilobytes();
    let running = worker.runtimes.block_on(async {
        let offer = spec(&[late]).into_offers("bench");
        let offers = (0..WAITING).map(|_| agent.offer(offer(), &worker.events));
        let running: Vec<_> = join_all(offers).await.into_iter().map(Result::unwrap).collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        running
    });
    let taken = private_kilobytes() - before;
    let ended = worker.runtimes.block_on(async {
        running.iter().for_each(|job| job.handle().kill());
        join_all(running.into_iter().map(Running::closed)).await
    });
    let killed = |closed: &Option<JobRecord>| closed.as_ref().is_some_and(|closed| closed.verdict.code == Code::Killed);
    assert!(ended.iter().all(killed), "some did not wait");
    taken / f64::from(WAITING)
}

fn private_kilobytes() -> f64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// CPU time of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

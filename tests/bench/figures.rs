//! Rates, percentiles, ratios and sizes, as tables: `cargo bench --bench figures`. About four minutes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a bench that cannot run says why by panicking, and its output is data"
)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Worker, bare, bare_job, table};
use futures_util::future::join_all;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::time::Instant;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::verdict::Code;
use wasm_worker_fuzz::core_guest;
use wasm_worker_sandbox::agent::{Agent, cargo};
use wasm_worker_sandbox::job::launch::Running;
use wasm_worker_sandbox::job::spec::JobSpec;
use wasmtime::{Engine, Instance, InstanceAllocationStrategy, Module, PoolingAllocationConfig, Store, TypedFunc};

const RATE_FOR: Duration = Duration::from_secs(3);
const LANES: usize = 8;
const KILLS: usize = 200;
const ROUNDS: usize = 21;

/// For a row of waiting jobs: the agent and how many.
const WAITING: &str = "--waiting";
const BY_HAND: &str = "by hand";
const SMALL_STACKS: &str = "64 KiB of stack";
const WITH_THE_SDK: &str = "with the SDK";
/// Instances of wasmtime alone, that do not run.
const BARE: &str = "bare instances";

const SPIN: &str = r#"(func (export "resume") (param f64 i32 i32) (loop $more (br $more)))"#;
/// 64 KiB of randomness in each turn.
const SPIN_OUTSIDE: &str = r#"(import "wasi:random/random@0.2.12" "get-random-bytes" (func $random (param i64 i32)))
  (func (export "resume") (param f64 i32 i32) (loop $more (call $random (i64.const 65536) (i32.const 1024)) (br $more)))"#;
const WAIT: &str = include_str!("../guests/core/long_wait.wat");

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, agent, at_once] = &arguments[..]
        && flag == WAITING
    {
        let at_once = at_once.parse().unwrap();
        return match agent.as_str() {
            BARE => waiting_bare(at_once),
            WITH_THE_SDK => waiting(agent, &guest("obedient"), at_once, &[]),
            SMALL_STACKS => waiting(agent, &core_guest::component(WAIT), at_once, &[("stack-limit", "64KiB")]),
            _ => waiting(agent, &core_guest::component(WAIT), at_once, &[]),
        };
    }
    // `cargo test --benches` only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    starts_and_rates();
    prewarms();
    kill_lags();
    cost_of_limits();
    reservations();
    steps();
    wakes_beside_loops();
    waiting_jobs();
}

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn starts_and_rates() {
    println!(
        "jobs from a snapshot of 8 MiB: from the offer to its answer, whose instance then is the job's; from there to the"
    );
    println!(
        "entrypoint; whole jobs a second; and instances made, called and dropped by wasmtime alone, a thread on each core"
    );
    println!(
        "{:>6} {:>8} {:>8} {:>17} {:>17} {:>9}",
        "cores", "at once", "jobs", "answer p50, p99", "start p50, p99", "jobs/s"
    );
    let all = sched_getaffinity(None).unwrap();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).collect();
    for count in 1..=cores.len() {
        let mut some = CpuSet::new();
        cores[..count].iter().for_each(|core| some.set(*core));
        // Threads that are started now have what this one has.
        sched_setaffinity(None, &some).unwrap();
        let worker = Worker::new(64, &[]);
        let agent = worker.load(&core_guest::component(&table(8)), None);
        for at_once in [1, 2, 8, 64] {
            let began = Instant::now();
            let lane = async || {
                let (mut answers, mut starts) = (Vec::new(), Vec::new());
                while began.elapsed() < RATE_FOR {
                    let (answered, closed) = worker.timed_job(&agent).await;
                    answers.push(answered.as_micros() as u64);
                    starts.push(closed.usage.start_us.unwrap());
                }
                (answers, starts)
            };
            let lanes = worker.runtimes.block_on(join_all((0..at_once).map(|_| lane())));
            let took = began.elapsed();
            let (answers, starts): (Vec<_>, Vec<_>) = lanes.into_iter().unzip();
            let [answers, starts] = [answers.concat(), starts.concat()].map(|mut all| {
                all.sort_unstable();
                all
            });
            let pair = |sorted| format!("{}, {} µs", percentile(sorted, 50), percentile(sorted, 99));
            println!(
                "{count:>6} {at_once:>8} {:>8} {:>17} {:>17} {:>9.0}",
                starts.len(),
                pair(&answers),
                pair(&starts),
                starts.len() as f64 / took.as_secs_f64()
            );
        }
        drop(agent);
        worker.runtimes.shut_down();
        println!("{count:>6} {:>8} {:>54.0}", "bare", bare_rate(count));
    }
    sched_setaffinity(None, &all).unwrap();
}

/// What a job costs whose table is in the snapshot, and one that has to make it: on one core that has always something to do, so
/// that nothing but work is measured.
fn prewarms() {
    println!(
        "\njobs a second on one core, {LANES} at once, with a table made in prewarm: from its snapshot, and made in each job"
    );
    println!("{:>8} {:>14} {:>14} {:>8}", "MiB", "snapshot", "each job", "times");
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap());
    sched_setaffinity(None, &one).unwrap();
    let (snapshots, none) = (Worker::new(64, &[]), Worker::new(64, &[("prewarm", "pool"), ("idle", "0")]));
    for mebibytes in [1, 8, 64] {
        let component = core_guest::component(&table(mebibytes));
        let [with, without] = [&snapshots, &none].map(|worker| rate(worker, &worker.load(&component, None)));
        println!("{mebibytes:>8} {with:>12.0}/s {without:>12.1}/s {:>7.0}x", with / without);
    }
    snapshots.runtimes.shut_down();
    none.runtimes.shut_down();
    sched_setaffinity(None, &all).unwrap();
}

fn rate(worker: &Worker, agent: &Agent) -> f64 {
    let began = Instant::now();
    let lane = async || {
        let mut jobs = 0_u32;
        while began.elapsed() < RATE_FOR {
            worker.job(agent).await;
            jobs += 1;
        }
        jobs
    };
    let jobs: u32 = worker.runtimes.block_on(join_all((0..LANES).map(|_| lane()))).into_iter().sum();
    f64::from(jobs) / began.elapsed().as_secs_f64()
}

/// Jobs a second of wasmtime alone on so many threads.
fn bare_rate(threads: usize) -> f64 {
    let pre = bare("", 1_000);
    let began = Instant::now();
    let jobs = std::thread::scope(|scope| {
        let lane = || {
            let jobs = std::iter::repeat_with(|| bare_job(&pre)).take_while(|()| began.elapsed() < RATE_FOR / 3);
            jobs.count()
        };
        let lanes: Vec<_> = (0..threads).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum::<usize>()
    });
    jobs as f64 / began.elapsed().as_secs_f64()
}

fn kill_lags() {
    println!("\nendless loops with --max-duration 100ms: how late they ended");
    println!("{:<16} {:>8} {:>8} {:>10} {:>10} {:>10}", "", "at once", "kills", "p50", "p99", "most");
    let worker = Worker::new(64, &[("max-duration", "100ms")]);
    for (name, guest) in [("of nothing", SPIN), ("of host calls", SPIN_OUTSIDE)] {
        let agent = worker.load(&core_guest::component(guest), None);
        for at_once in [1, 2, 8, 64] {
            let mut lags = Vec::new();
            while lags.len() < KILLS {
                let closed = worker.runtimes.block_on(join_all((0..at_once).map(|_| worker.job(&agent))));
                lags.extend(closed.iter().map(|closed| closed.verdict.kill_lag_us.unwrap()));
            }
            print_lags(name, &at_once.to_string(), lags);
        }
    }
    print_lags("of nothing", "bare", bare_kill_lags());
}

fn print_lags(name: &str, at_once: &str, mut lags: Vec<u64>) {
    lags.sort_unstable();
    let [median, slow, most] = [50, 99, 100].map(|percent| percentile(&lags, percent));
    println!("{name:<16} {at_once:>8} {:>8} {median:>7} µs {slow:>7} µs {most:>7} µs", lags.len());
}

/// How late wasmtime alone ends a loop after ten epochs of 10 ms, in microseconds.
#[expect(clippy::disallowed_methods, reason = "this is what the worker is compared with")]
fn bare_kill_lags() -> Vec<u64> {
    let epoch = Duration::from_millis(10);
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    let engine = Engine::new(&config).unwrap();
    let text = "(module (func (export \"run\") (loop $more (br $more))))";
    let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::park_timeout(epoch);
                engine.increment_epoch();
            }
        });
        let kill = || {
            let mut store = Store::new(&engine, ());
            store.set_epoch_deadline(10);
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
            let began = Instant::now();
            assert!(run.call(&mut store, ()).is_err());
            began.elapsed().saturating_sub(epoch * 10).as_micros() as u64
        };
        let lags = (0..KILLS / 4).map(|_| kill()).collect();
        over.store(true, Ordering::Relaxed);
        lags
    })
}

/// Each runs some tens of milliseconds.
const WORK: [(&str, &str); 4] = [
    (
        "arithmetic",
        r#"(module (func (export "run") (local $left i32) (local $a i64) (local $b i64)
          (local.set $left (i32.const 10000000)) (local.set $a (i64.const 1))
          (loop $more
            (local.set $b (i64.xor (i64.rotl (local.get $a) (i64.const 13)) (local.get $b)))
            (local.set $a (i64.add (i64.mul (local.get $a) (i64.const 6364136223846793005)) (local.get $b)))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $more (local.get $left)))
          (global.set $out (local.get $a)))
        (global $out (mut i64) (i64.const 0)))"#,
    ),
    (
        // A list of free blocks of 64 bytes: half are taken, then each is given back and taken again.
        "allocation",
        r#"(module (memory 64) (global $free (mut i32) (i32.const 0)) (global $top (mut i32) (i32.const 64))
        (func $take (result i32) (local $block i32)
          (if (i32.eqz (global.get $free))
            (then
              (local.set $block (global.get $top))
              (global.set $top (i32.add (global.get $top) (i32.const 64)))
              (return (local.get $block))))
          (local.set $block (global.get $free))
          (global.set $free (i32.load (local.get $block)))
          (local.get $block))
        (func $give (param $block i32)
          (i32.store (local.get $block) (global.get $free))
          (global.set $free (local.get $block)))
        (func (export "run") (local $left i32) (local $a i32) (local $b i32)
          (local.set $left (i32.const 3000000))
          (loop $more
            (local.set $a (call $take)) (local.set $b (call $take))
            (i64.store offset=8 (local.get $a) (i64.const 7)) (i64.store offset=16 (local.get $b) (i64.const 9))
            (call $give (local.get $a)) (call $give (local.get $b))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $more (local.get $left)))))"#,
    ),
    (
        "bulk copy",
        r#"(module (memory 64)
        (func (export "run") (local $left i32)
          (local.set $left (i32.const 4000))
          (loop $more
            (memory.copy (i32.const 2097152) (i32.const 0) (i32.const 131072))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $more (local.get $left)))))"#,
    ),
    (
        "many calls",
        r#"(module
        (func $fibonacci (param $n i32) (result i32)
          (if (i32.lt_u (local.get $n) (i32.const 2)) (then (return (local.get $n))))
          (i32.add
            (call $fibonacci (i32.sub (local.get $n) (i32.const 1)))
            (call $fibonacci (i32.sub (local.get $n) (i32.const 2)))))
        (func (export "run") (drop (call $fibonacci (i32.const 31)))))"#,
    ),
];

/// Bare, with fuel, with epochs, with both.
const LIMITED: [fn(&mut wasmtime::Config); 4] = [
    |_| {},
    |config| _ = config.consume_fuel(true),
    |config| _ = config.epoch_interruption(true),
    |config| _ = config.consume_fuel(true).epoch_interruption(true),
];

/// One workload in one engine.
struct Work {
    store: Store<()>,
    run: TypedFunc<(), ()>,
}

impl Work {
    #[expect(clippy::disallowed_methods, reason = "engines with parts of the worker's configuration")]
    fn new(text: &str, configure: fn(&mut wasmtime::Config)) -> Self {
        let mut config = wasmtime::Config::new();
        configure(&mut config);
        Self::on(&Engine::new(&config).unwrap(), text)
    }

    fn on(engine: &Engine, text: &str) -> Self {
        let mut store = Store::new(engine, ());
        store.set_epoch_deadline(u64::MAX >> 1);
        let module = Module::new(engine, wat::parse_str(text).unwrap()).unwrap();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let run = instance.get_typed_func(&mut store, "run").unwrap();
        Self { store, run }
    }

    fn time(&mut self) -> Duration {
        // Without fuel there is none to set.
        drop(self.store.set_fuel(u64::MAX));
        let began = Instant::now();
        self.run.call(&mut self.store, ()).unwrap();
        began.elapsed()
    }
}

fn cost_of_limits() {
    println!("\ncost of what limits a guest: median of {ROUNDS} rounds, and of the ratios to bare of the same round");
    println!("{:<12} {:>9} {:>14} {:>14} {:>14} {:>14}", "", "bare", "fuel", "epochs", "both", "in a job");
    let worker = Worker::new(4, &[]);
    let (mut both, mut jobs) = (Vec::new(), Vec::new());
    for (name, text) in WORK {
        let mut work = LIMITED.map(|configure| Work::new(text, configure));
        for work in &mut work {
            work.time();
        }
        let agent = worker.load(&core_guest::component(&as_an_agent(text)), None);
        let round = || {
            let [bare, fuel, epochs, both] = work.each_mut().map(|work| work.time().as_secs_f64() * 1_000.0);
            let job = worker.runtimes.block_on(worker.job(&agent));
            [bare, fuel, epochs, both, job.usage.cpu_us as f64 / 1_000.0]
        };
        let rounds: Vec<[f64; 5]> = std::iter::repeat_with(round).take(ROUNDS).collect();
        let median = |of: &dyn Fn(&[f64; 5]) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(of).collect();
            values.sort_unstable_by(f64::total_cmp);
            values[ROUNDS / 2]
        };
        let cells: Vec<String> = (1..5)
            .map(|at| format!("{:>5.1} ms {:>4.2}x", median(&|round| round[at]), median(&|round| round[at] / round[0])))
            .collect();
        println!("{name:<12} {:>6.1} ms {}", median(&|round| round[0]), cells.join(" "));
        both.push(median(&|round| round[3] / round[0]));
        jobs.push(median(&|round| round[4] / round[0]));
    }
    let middle = |mut ratios: Vec<f64>| {
        ratios.sort_unstable_by(f64::total_cmp);
        (ratios[1] + ratios[2]) / 2.0
    };
    println!(
        "median of the four: both {:.2}x, in a job, by the CPU time on its bill, {:.2}x",
        middle(both),
        middle(jobs)
    );
    worker.runtimes.shut_down();
}

/// The same work as the one step of an agent.
fn as_an_agent(text: &str) -> String {
    let body = text.strip_prefix("(module").unwrap().strip_suffix(')').unwrap();
    let body =
        body.replace("(func (export \"run\")", "(func $run").replace("(memory 64)", "(memory (export \"memory\") 64)");
    format!("{body} (func (export \"resume\") (param f64 i32 i32) (call $run) (call $ok))")
}

/// Reads and writes all over 4 MiB.
const WALK: &str = r#"(module (memory 64)
  (func (export "run") (local $at i32) (local $left i32)
    (local.set $left (i32.const 10000000))
    (loop $more
      (local.set $at (i32.and (i32.add (i32.mul (local.get $at) (i32.const 5)) (i32.const 4100)) (i32.const 4194300)))
      (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (i32.const 1)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $more (local.get $left)))))"#;

/// A page of data at 1 MiB, as programs of LLVM's have it.
const PROGRAM: &str = r#"(module (memory 18) (data (i32.const 1048576) "data"))"#;

const MEMORY_BYTES_MAX: usize = 128 << 20;
const RESERVED: u32 = 1_000;

/// Reserved addresses and guard behind a memory, in bytes.
const RESERVATIONS: [(u64, u64); 3] =
    [(4 << 30, 32 << 20), (MEMORY_BYTES_MAX as u64, 64 << 10), (MEMORY_BYTES_MAX as u64, 0)];

#[expect(clippy::disallowed_methods, reason = "other reservations than the worker's")]
fn reserving((reservation, guard): (u64, u64)) -> Engine {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(RESERVED).total_core_instances(RESERVED).max_memory_size(MEMORY_BYTES_MAX);
    let mut config = wasmtime::Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config.memory_reservation(reservation).memory_guard_size(guard);
    Engine::new(&config).unwrap()
}

/// What the reservation of a memory buys, and what it does not cost: mappings.
fn reservations() {
    println!(
        "\nmemories of at most 128 MiB in a pool of {RESERVED}: what is reserved for each, and what an access costs"
    );
    println!("{:>12} {:>10} {:>14} {:>14} {:>16}", "reserved", "guard", "addresses", "mappings", "4 MiB walk");
    let mut walks = RESERVATIONS.map(|reserved| Work::on(&reserving(reserved), WALK));
    for walk in &mut walks {
        walk.time();
    }
    let rounds: Vec<[f64; 3]> =
        (0..ROUNDS).map(|_| walks.each_mut().map(|walk| walk.time().as_secs_f64() * 1_000.0)).collect();
    for (at, reserved) in RESERVATIONS.into_iter().enumerate() {
        let (mapped, addresses) = (mappings(), status_kilobytes("VmSize:"));
        let engine = reserving(reserved);
        let module = Module::new(&engine, wat::parse_str(PROGRAM).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        for _ in 0..RESERVED {
            Instance::new(&mut store, &module, &[]).unwrap();
        }
        let each = |all: u64| all as f64 / f64::from(RESERVED);
        let mut ratios: Vec<f64> = rounds.iter().map(|round| round[at] / round[0]).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        println!(
            "{:>8} MiB {:>6} KiB {:>10.0} MiB {:>14.1} {:>15.2}x",
            reserved.0 >> 20,
            reserved.1 >> 10,
            each(status_kilobytes("VmSize:") - addresses) / 1_024.0,
            each(mappings() - mapped),
            ratios[ROUNDS / 2]
        );
    }
}

fn status_kilobytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn resident_kilobytes() -> u64 {
    status_kilobytes("VmRSS:")
}

fn mappings() -> u64 {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count() as u64
}

/// Steps of one job, and how many of them are measured together.
const STEPS: u32 = 20_000;
const TEXTS: usize = 500;

/// Has itself woken at once, so many times.
fn empty_steps(count: u32) -> String {
    format!(
        r#"(import "wasm-worker:agent/job@0.1.0" "wake" (func $wake (param i32 i32)))
        (global $left (mut i32) (i32.const {count}))
        (func (export "resume") (param f64 i32 i32)
          (if (i32.eqz (global.get $left)) (then (call $ok) (return)))
          (global.set $left (i32.sub (global.get $left) (i32.const 1)))
          (call $wake (i32.const 1) (i32.const 0)))"#
    )
}

/// What a step costs, with the host's part of it.
fn steps() {
    println!("\nwhat a step costs, with the host's part: of {ROUNDS} jobs of {STEPS} steps, or of {TEXTS} texts,");
    println!("each answered by a text; the time that the job spent on a thread, without that of its start");
    println!("{:<28} {:>10} {:>10} {:>10}", "", "least", "p50", "most");
    let worker = Worker::new(4, &[]);
    let by_hand = worker.load(&core_guest::component(&empty_steps(STEPS)), None);
    print_steps("empty step, by hand", &worker, &by_hand, &JobSpec::default, STEPS);
    let ticks = worker.load(&guest("tick"), None);
    let spec = || JobSpec { metadata: STEPS.to_string(), ..JobSpec::default() };
    print_steps("empty step, with the SDK", &worker, &ticks, &spec, STEPS);
    let answers = worker.load(&guest("answers"), None);
    print_steps("text and answer, at once", &worker, &answers, &|| texts(0), TEXTS as u32);
    print_steps("text and answer, 1 ms apart", &worker, &answers, &|| texts(1), TEXTS as u32);
    worker.runtimes.shut_down();
    recording();
}

/// What a recording adds to a step, and how large it is.
fn recording() {
    println!("\nwhat a recording adds: the wall time of the same jobs, a step, without and with `record`");
    println!("{:<28} {:>10} {:>10} {:>10}", "", "without", "with", "bytes");
    let dir = tempfile::tempdir().unwrap();
    let [plain, recorded] =
        [vec![], vec![("record", dir.path().to_str().unwrap())]].map(|settings| Worker::new(4, &settings));
    let spec = || JobSpec { metadata: STEPS.to_string(), ..JobSpec::default() };
    for (name, component, texts) in [
        ("empty step, by hand", core_guest::component(&empty_steps(STEPS)), false),
        ("empty step, with the SDK", guest("tick"), false),
        ("text and answer, 1 ms apart", guest("answers"), true),
    ] {
        let count = if texts { TEXTS as u32 } else { STEPS };
        let [without, with] = [&plain, &recorded].map(|worker| {
            let agent = worker.load(&component, None);
            let wall = |_| {
                let offer = if texts { self::texts(1) } else { spec() }.into_offers("bench")();
                let closed = worker
                    .runtimes
                    .block_on(async { agent.offer(offer, &worker.events).await.unwrap().closed().await.unwrap() });
                let spent = if texts { closed.usage.wall_us - closed.usage.wait_us } else { closed.usage.wall_us };
                (spent - closed.usage.start_us.unwrap_or(0)) as f64 / f64::from(count)
            };
            let mut each: Vec<f64> = (0..ROUNDS).map(wall).collect();
            each.sort_unstable_by(f64::total_cmp);
            each[ROUNDS / 2]
        });
        let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
        let sizes: Vec<u64> = files
            .map(|file| {
                let size = file.metadata().unwrap().len();
                std::fs::remove_file(file.path()).unwrap();
                size
            })
            .collect();
        let bytes = sizes.iter().sum::<u64>() / (sizes.len().max(1) as u64 * u64::from(count));
        println!("{name:<28} {without:>7.2} µs {with:>7.2} µs {bytes:>10}");
    }
    [plain, recorded].into_iter().for_each(|worker| worker.runtimes.shut_down());
}

/// Texts of somebody, so many milliseconds apart.
fn texts(apart_ms: u32) -> JobSpec {
    let text = |number| {
        let text = if number + 1 == TEXTS { "last" } else { "some words that somebody said" };
        format!(r#"{{"after_ms": {apart_ms}, "event": {{"text": {{"sender": "ann", "text": "{text}"}}}}}}"#)
    };
    let script: Vec<String> = (0..TEXTS).map(text).collect();
    JobSpec::parse(&format!(r#"{{"inbox": [{}]}}"#, script.join(","))).unwrap()
}

fn print_steps(name: &str, worker: &Worker, agent: &Agent, spec: &dyn Fn() -> JobSpec, count: u32) {
    let job = || {
        let offer = spec().into_offers("bench")();
        let closed = worker.runtimes.block_on(async {
            let running = agent.offer(offer, &worker.events).await.unwrap();
            running.closed().await.unwrap()
        });
        assert_eq!(closed.verdict.code, Code::Completed, "{:?}", closed.verdict);
        closed.usage.run_us as f64 / f64::from(count)
    };
    let mut each: Vec<f64> = std::iter::repeat_with(job).take(ROUNDS).collect();
    each.sort_unstable_by(f64::total_cmp);
    println!("{name:<28} {:>7.2} µs {:>7.2} µs {:>7.2} µs", each[0], each[ROUNDS / 2], each[ROUNDS - 1]);
}

const NEIGHBOURS: u32 = 1_000;
const LOOPS: u32 = 2;

/// How late the steps of waiting jobs come that other jobs do not let alone.
fn wakes_beside_loops() {
    println!("\n{NEIGHBOURS} jobs that set a timer of 100 ms again and again: how late its step comes");
    println!("{:<28} {:>8} {:>10} {:>10} {:>10}", "beside", "steps", "p50", "p99", "most");
    let worker = Worker::new(NEIGHBOURS + LOOPS, &[("unresponsive-timeout", "10m"), ("unresponsive-warning", "5m")]);
    let (late, spin) = (worker.load(&guest("late"), None), worker.load(&core_guest::component(SPIN), None));
    for loops in [0, LOOPS] {
        let lags = worker.runtimes.block_on(async {
            let offer = JobSpec::default().into_offers("bench");
            let running = join_all((0..loops).map(|_| spin.offer(offer(), &worker.events))).await;
            let running: Vec<_> = running.into_iter().map(Result::unwrap).collect();
            let jobs = join_all((0..NEIGHBOURS).map(|_| worker.job(&late))).await;
            for job in running {
                job.handle().kill();
                job.closed().await.unwrap();
            }
            jobs
        });
        let texts = lags.iter().flat_map(|closed| &closed.activity.texts);
        let mut lags: Vec<u64> = texts.flat_map(|sent| sent.text.split(' ').map(|lag| lag.parse().unwrap())).collect();
        lags.sort_unstable();
        let [median, slow, most] = [50, 99, 100].map(|percent| percentile(&lags, percent));
        let beside = if loops == 0 { "nothing".into() } else { format!("{loops} endless loops") };
        println!("{beside:<28} {:>8} {median:>7} µs {slow:>7} µs {most:>7} µs", lags.len());
    }
    worker.runtimes.shut_down();
}

/// Each row in a process of its own: memory that one has given back would be there for the next.
fn waiting_jobs() {
    println!("\njobs that wait for their timer: resident memory and memory mappings of the process, for each job");
    println!("{:<16} {:>8} {:>12} {:>10} {:>9} {:>8}", "agent", "jobs", "resident", "a job", "mappings", "a job");
    for agent in [BY_HAND, SMALL_STACKS, WITH_THE_SDK, BARE] {
        for at_once in ["1000", "4000", "8000", "12000"] {
            let program = std::env::current_exe().unwrap();
            let row = std::process::Command::new(program).args([WAITING, agent, at_once]).status().unwrap();
            assert!(row.success(), "{agent}, {at_once} jobs");
        }
    }
}

/// The component of a guest in `tests/guests`.
fn guest(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
    let built = cargo::component_build(&dir).unwrap().args(["--example", name]).status().unwrap();
    assert!(built.success(), "the guest does not compile");
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().nth(3).unwrap().join(cargo::TARGET);
    std::fs::read(target.join("agent/examples").join(name).with_extension("wasm")).unwrap()
}

fn waiting_bare(instances: u32) {
    let (resident, mapped) = (resident_kilobytes(), mappings());
    let pre = bare("", instances);
    let made: Vec<_> = (0..instances)
        .map(|_| {
            let mut store = Store::new(pre.engine(), ());
            pre.instantiate(&mut store).unwrap();
            store
        })
        .collect();
    print_waiting(BARE, instances, resident, mapped);
    drop(made);
}

fn print_waiting(name: &str, at_once: u32, resident_before: u64, mapped_before: u64) {
    let (resident, mapped) = (resident_kilobytes() - resident_before, mappings() - mapped_before);
    println!(
        "{name:<16} {at_once:>8} {resident:>9} kB {:>7.1} kB {mapped:>9} {:>8.1}",
        resident as f64 / f64::from(at_once),
        mapped as f64 / f64::from(at_once)
    );
}

fn waiting(name: &str, component: &[u8], at_once: u32, settings: &[(&str, &str)]) {
    // All that there is for the sake of these jobs: the pool and its stacks too.
    let (resident, mapped) = (resident_kilobytes(), mappings());
    let worker = Worker::new(at_once, settings);
    let agent = worker.load(component, None);
    let running = worker.runtimes.block_on(async {
        let offer = JobSpec::default().into_offers("bench");
        let offers = (0..at_once).map(|_| agent.offer(offer(), &worker.events));
        let running: Vec<_> = join_all(offers).await.into_iter().map(Result::unwrap).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        running
    });
    print_waiting(name, at_once, resident, mapped);
    let ended = worker.runtimes.block_on(async {
        running.iter().for_each(|job| job.handle().kill());
        join_all(running.into_iter().map(Running::closed)).await
    });
    let killed = |closed: &Option<JobRecord>| closed.as_ref().is_some_and(|closed| closed.verdict.code == Code::Killed);
    assert!(ended.iter().all(killed), "some did not wait");
    drop(agent);
    worker.runtimes.shut_down();
}

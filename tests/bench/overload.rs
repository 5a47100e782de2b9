//! What a worker finishes when it is offered more than fits, what a refusal costs, and what a short job costs beside jobs that
//! wait: `cargo bench --bench overload`, ten minutes.
//!
//! A scripted server offers jobs that compute, at a rate that does not wait for answers, as a server of many rooms does. One in
//! 100 loops until it is killed for its run time, and shows how late that was. A limit by the wall clock would let a loop cost
//! less, the more jobs run beside it. The worker is at its defaults otherwise. How much a job can compute in [`JOB_TAKES`] on this
//! machine is measured first. Each rate is twice the one before it, and its figures are medians of [`ROUNDS`], taken in turn.
//!
//! What is finished is told as the CPU time of the finished jobs too, in percent of the time of all cores. On a machine whose
//! speed varies the same rate finishes fewer jobs in one round than in the next, and each of them takes more CPU time.
//!
//! Bounds: [`RATE_FOR`] for each rate of each round, [`REFUSALS`], and [`SHORT_JOBS`] for each number of waiting jobs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    dead_code,
    reason = "a bench that cannot run says why by panicking, its output is data, and another bench uses the rest of the modules"
)]

mod process;
mod server;
mod workers;

use std::time::Duration;

use livekit_protocol::{JobStatus, UpdateJobStatus};
use serde_json::Value;
use server::ToServer;
use tokio::time::{Instant, MissedTickBehavior, interval};
use workers::{Behaviour, Subject, Worker};

const RATE_FOR: Duration = Duration::from_secs(11);
/// The time of the first rate, which fits, before each rate: a worker cannot tell what jobs cost before one has ended.
const LEARN: Duration = Duration::from_secs(1);
/// The first seconds do not count: the load is an average.
const SETTLE: Duration = Duration::from_secs(4);
/// Offers a second, in multiples of what about fits.
const RATES: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// CPU time of a job that computes.
const JOB_TAKES: Duration = Duration::from_millis(50);
/// Share of the cores that the first rate takes, in percent: about the default of `load-threshold`.
const FITS_PERCENT: u128 = 70;
/// Jobs that compute before the offers, as many at once as there are cores, to learn what a round costs; and their rounds.
const LEARN_FROM: usize = 20;
const LEARN_ROUNDS: u64 = 20_000_000;
/// The server writes the offers of this time at once.
const TICK: Duration = Duration::from_millis(5);
const ROUNDS: usize = 5;
const LOOPING_ONE_IN: u64 = 100;
/// Run time after which a loop is killed: some three times what the others take. The loops of a round vary in number, and each
/// takes the place of as many jobs.
const RUN_TIME_MAX: Duration = Duration::from_millis(150);
/// Jobs that wait in the same worker.
const WAITING: [usize; 4] = [0, 1_000, 4_000, 10_000];
/// Short jobs for each number of waiting ones, one at a time.
const SHORT_JOBS: usize = 3_000;
/// Offers that are open while the waiting jobs begin.
const OPEN_OFFERS: usize = 200;
/// Offers to a worker that is full.
const REFUSALS: usize = 40_000;
/// Offers that are open while offers are refused, as in an overload: each waits for capacity first. With few of them the figure is
/// mostly the CPU time that a worker takes without offers, which is printed beside it.
const OPEN_REFUSALS: usize = 2_000;
/// The time without offers.
const IDLE: Duration = Duration::from_secs(10);

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let work = runtime.block_on(measure());
    println!("jobs that compute {} rounds take {JOB_TAKES:?} of CPU, and {} a second fit", work.rounds, work.fits);
    let mut rounds: [Vec<Row>; RATES.len()] = Default::default();
    for _ in 0..ROUNDS {
        for (rows, times) in rounds.iter_mut().zip(RATES) {
            rows.push(runtime.block_on(offer(&work, work.fits * times)));
        }
    }
    let rates: Vec<Rate> = rounds.into_iter().map(Rate::of).collect();
    let most = rates.iter().map(|rate| rate.cpu[1]).fold(0.0, f64::max);
    println!(
        "offers/s  finished/s (least, most)  their CPU (least, most)  of the most  refused  kill lag p50      p99"
    );
    for (times, rate) in RATES.into_iter().zip(rates) {
        println!("{:>8} {}", work.fits * times, rate.text(most));
    }
    runtime.block_on(refusals());
    println!("\na short job beside jobs that wait in the same worker, {SHORT_JOBS} of them one at a time");
    println!("{:>8} {:>16} {:>16} {:>16}", "waiting", "CPU a job", "offer to end p50", "p99");
    for waiting in WAITING {
        runtime.block_on(short_jobs(waiting));
    }
}

/// The jobs that compute on this machine.
struct Work {
    /// The rounds of a job that takes [`JOB_TAKES`] while all cores are busy.
    rounds: u64,
    /// The jobs a second that about fit.
    fits: u32,
}

async fn measure() -> Work {
    let cores = std::thread::available_parallelism().unwrap().get();
    let flags = ["--load-threshold", "none", "--http", "off", "--log-level", "error"];
    let mut worker = Worker::start(&Subject::ours(), Behaviour::Compute, &flags).await;
    let before = worker.cpu();
    let rounds = LEARN_ROUNDS.to_string();
    for _ in 0..LEARN_FROM {
        assert_eq!(run_jobs(&mut worker, &vec![rounds.as_str(); cores], JobStatus::JsSuccess).await, cores);
    }
    let cpu = (worker.cpu() - before) / u32::try_from(LEARN_FROM * cores).unwrap();
    worker.stop().await;
    let rounds = u128::from(LEARN_ROUNDS) * JOB_TAKES.as_nanos() / cpu.as_nanos();
    let fits = cores as u128 * FITS_PERCENT * Duration::from_secs(1).as_nanos() / (100 * JOB_TAKES.as_nanos());
    Work { rounds: rounds.try_into().unwrap(), fits: fits.try_into().unwrap() }
}

/// Print the CPU time of a full worker without offers, and for one offer, which it refuses.
async fn refusals() {
    let flags = ["--max-jobs", "1", "--load-threshold", "none", "--http", "off", "--log-level", "error"];
    let mut worker = Worker::start(&Subject::ours(), Behaviour::Compute, &flags).await;
    assert_eq!(run_jobs(&mut worker, &["wait"], JobStatus::JsRunning).await, 1);
    let before = worker.cpu();
    tokio::time::sleep(IDLE).await;
    let idle = (worker.cpu() - before).div_f64(IDLE.as_secs_f64());
    let (before, began) = (worker.cpu(), Instant::now());
    for _ in 0..REFUSALS / OPEN_REFUSALS {
        assert_eq!(
            run_jobs(&mut worker, &["return"; OPEN_REFUSALS], JobStatus::JsRunning).await,
            0,
            "the worker is full"
        );
    }
    let cpu = (worker.cpu() - before) / u32::try_from(REFUSALS).unwrap();
    println!("\nan offer to a full worker, which refuses it, {OPEN_REFUSALS} of {REFUSALS} at once: {cpu:.1?} of CPU");
    println!("all of them take {:.1?}; without offers the worker takes {idle:.1?} of CPU a second", began.elapsed());
    worker.stop().await;
}

/// Print the CPU time of the worker for one short job, and how long such a job takes, beside so many waiting ones.
async fn short_jobs(waiting: usize) {
    let flags = ["--max-jobs", "12000", "--load-threshold", "none", "--http", "off", "--log-level", "error"];
    let mut worker = Worker::start(&Subject::ours(), Behaviour::Compute, &flags).await;
    let mut begun = 0;
    while begun < waiting {
        let open = OPEN_OFFERS.min(waiting - begun);
        begun += run_jobs(&mut worker, &vec!["wait"; open], JobStatus::JsRunning).await;
    }
    run_jobs(&mut worker, &["return"; 20], JobStatus::JsSuccess).await;
    let before = worker.cpu();
    let mut took = Vec::new();
    while took.len() < SHORT_JOBS {
        let began = Instant::now();
        assert_eq!(run_jobs(&mut worker, &["return"], JobStatus::JsSuccess).await, 1, "the worker refused the job");
        took.push(began.elapsed());
    }
    let cpu = (worker.cpu() - before) / u32::try_from(SHORT_JOBS).unwrap();
    took.sort_unstable();
    let [median, slow] = [50, 99].map(|percent| took[took.len() * percent / 100]);
    println!("{waiting:>8} {cpu:>16.0?} {median:>16.0?} {slow:>16.0?}");
    worker.stop().await;
}

/// Offer jobs, and wait until each is refused or has this status. Returns how many have it.
async fn run_jobs(worker: &mut Worker, metadata: &[&str], status: JobStatus) -> usize {
    let until = Instant::now() + RATE_FOR;
    let mut jobs: std::collections::HashMap<_, _> =
        worker.peer.offer_all(metadata).await.into_iter().map(|job| (job.id.clone(), job)).collect();
    let (mut left, mut reached) = (metadata.len(), 0);
    while left > 0 {
        match worker.peer.hear(until).await.expect("the worker answers") {
            ToServer::Availability(answer) if answer.available => {
                worker.peer.assign(jobs.remove(&answer.job_id).unwrap()).await;
            }
            ToServer::Availability(_) => left -= 1,
            ToServer::UpdateJob(report) if report.status == status as i32 => {
                left -= 1;
                reached += 1;
            }
            _ => {}
        }
    }
    reached
}

/// What came of one rate in one round.
struct Row {
    /// A second.
    finished: f64,
    /// CPU time of the finished jobs, as a part of the time of all cores.
    cpu: f64,
    refused: f64,
    /// In microseconds.
    kill_lags: Vec<u64>,
}

/// What came of one rate in all rounds.
struct Rate {
    /// The least, the median and the most, a second.
    finished: [f64; 3],
    /// The same of the CPU time of the finished jobs, as a part of the time of all cores.
    cpu: [f64; 3],
    /// The median.
    refused: f64,
    /// Sorted.
    kill_lags: Vec<u64>,
}

impl Rate {
    fn of(rows: Vec<Row>) -> Self {
        let sorted = |of: fn(&Row) -> f64| {
            let mut figures: Vec<f64> = rows.iter().map(of).collect();
            figures.sort_by(f64::total_cmp);
            figures
        };
        let (finished, cpu, refused) = (sorted(|row| row.finished), sorted(|row| row.cpu), sorted(|row| row.refused));
        let mut kill_lags: Vec<u64> = rows.iter().flat_map(|row| &row.kill_lags).copied().collect();
        kill_lags.sort_unstable();
        let spread = |figures: Vec<f64>| [0, ROUNDS / 2, ROUNDS - 1].map(|at| figures[at]);
        Self { finished: spread(finished), cpu: spread(cpu), refused: refused[ROUNDS / 2], kill_lags }
    }

    /// `most` is the median of the rate whose finished jobs took the most CPU time.
    fn text(&self, most: f64) -> String {
        let lag = |percent: usize| {
            let at = self.kill_lags.len().saturating_sub(1) * percent / 100;
            self.kill_lags.get(at).map_or("none".into(), |micros| format!("{:.1} ms", *micros as f64 / 1e3))
        };
        let [least, median, highest] = self.finished;
        let span = format!("({least:.0}, {highest:.0})");
        let [cpu_least, cpu, cpu_highest] = self.cpu.map(|part| 100.0 * part);
        let cpu_span = format!("({cpu_least:.0}, {cpu_highest:.0})");
        let (of_most, refused) = (cpu / most, 100.0 * self.refused);
        format!(
            "{median:>11.0} {span:>14} {cpu:>9.1} % {cpu_span:>13} {of_most:>10.0} % {refused:>6.0} % {:>13} {:>8}",
            lag(50),
            lag(99)
        )
    }
}

/// Offer jobs at a rate, after a second of the rate that fits.
async fn offer(work: &Work, rate: u32) -> Row {
    let events = tempfile::NamedTempFile::new().unwrap();
    let (limit, rounds) = (format!("{}ms", RUN_TIME_MAX.as_millis()), work.rounds.to_string());
    let flags = ["--unresponsive-timeout", &limit, "--http", "off", "--log-level", "error", "--failures-max", "none"];
    let flags = [&flags[..], &["--events", events.path().to_str().unwrap()]].concat();
    let mut worker = Worker::start(&Subject::ours(), Behaviour::Compute, &flags).await;
    let began = Instant::now();
    let (counts_from, until) = (began + SETTLE, began + RATE_FOR);
    let mut ticks = interval(TICK);
    // A late driver offers what it missed: the rooms do not wait.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut offered, mut answered, mut refused) = (0_u64, 0_u64, 0_u64);
    let mut finished = std::collections::HashSet::new();
    let mut jobs = std::collections::HashMap::new();
    while Instant::now() < until {
        let far = until;
        tokio::select! {
            biased;
            heard = worker.peer.hear(far) => match heard {
                Some(ToServer::Availability(answer)) => {
                    let job = jobs.remove(&answer.job_id).unwrap();
                    let counts = Instant::now() >= counts_from;
                    answered += u64::from(counts);
                    if answer.available {
                        worker.peer.assign(job).await;
                    } else {
                        refused += u64::from(counts);
                    }
                }
                Some(ToServer::UpdateJob(UpdateJobStatus { status, job_id, .. })) if status == JobStatus::JsSuccess as i32 => {
                    if Instant::now() >= counts_from {
                        finished.insert(job_id);
                    }
                }
                Some(_) => {}
                None => break,
            },
            _ = ticks.tick() => {
                let elapsed = began.elapsed();
                let learned = elapsed.min(LEARN).as_secs_f64() * f64::from(work.fits);
                let due = (learned + elapsed.saturating_sub(LEARN).as_secs_f64() * f64::from(rate)) as u64;
                let looping = |number: u64| if number.is_multiple_of(LOOPING_ONE_IN) { "loop" } else { rounds.as_str() };
                let metadata: Vec<&str> = (offered..due).map(looping).collect();
                offered = offered.max(due);
                let new = worker.peer.offer_all(&metadata).await;
                jobs.extend(new.into_iter().map(|job| (job.id.clone(), job)));
            }
        }
    }
    worker.stop().await;
    let text = std::fs::read_to_string(events.path()).unwrap();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let kill_lags = lines.iter().filter_map(|line| line["verdict"]["kill_lag_us"].as_u64()).collect();
    let of_finished = lines.iter().filter(|line| line["job"].as_str().is_some_and(|job| finished.contains(job)));
    let cpu_us: u64 = of_finished.filter_map(|line| line["usage"]["cpu_us"].as_u64()).sum();
    let counted = (RATE_FOR - SETTLE).as_secs_f64();
    let cores = std::thread::available_parallelism().unwrap().get() as f64;
    Row {
        finished: finished.len() as f64 / counted,
        cpu: cpu_us as f64 / 1e6 / counted / cores,
        refused: refused as f64 / answered.max(1) as f64,
        kill_lags,
    }
}

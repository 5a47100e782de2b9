//! What a worker finishes when it is offered more than fits: `cargo bench --bench overload`, five minutes.
//!
//! A scripted server offers jobs of a millisecond or so of computing, at a rate that does not wait for answers, as a server of
//! many rooms does; one in 250 loops until its deadline, and shows how late it ended, by the wall clock. The worker is at its
//! defaults. Each rate is twice the one before it, and what is finished of each is the median of [`ROUNDS`], taken in turn: the
//! machine is not the same from one to the next.
//!
//! Bounds: [`RATE_FOR`] for each rate of each round.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    dead_code,
    reason = "a bench that cannot run says why by panicking, its output is data, and another bench uses the rest of the modules"
)]

mod server;
mod workers;

use std::time::Duration;

use livekit_protocol::{JobStatus, UpdateJobStatus};
use serde_json::Value;
use server::ToServer;
use tokio::time::{Instant, MissedTickBehavior, interval};
use workers::{Behaviour, Subject, Worker};

const RATE_FOR: Duration = Duration::from_secs(10);
/// The first seconds of each rate do not count: the load is an average.
const SETTLE: Duration = Duration::from_secs(3);
const RATES: [u32; 5] = [200, 400, 800, 1_600, 3_200];
const ROUNDS: usize = 5;
const LOOPING_ONE_IN: u64 = 250;
/// Some hundred times what the others take alone.
const DEADLINE: Duration = Duration::from_millis(500);

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut rounds: [Vec<Row>; RATES.len()] = Default::default();
    for _ in 0..ROUNDS {
        for (rows, rate) in rounds.iter_mut().zip(RATES) {
            rows.push(runtime.block_on(offer(rate)));
        }
    }
    let rates: Vec<Rate> = rounds.into_iter().map(Rate::of).collect();
    let most = rates.iter().map(|rate| rate.finished[1]).fold(0.0, f64::max);
    println!("offers/s  finished/s (least, most)  of the most   refused  kill lag p50      p99");
    for (offers, rate) in RATES.into_iter().zip(rates) {
        println!("{offers:>8} {}", rate.text(most));
    }
}

/// What came of one rate in one round.
struct Row {
    /// A second.
    finished: f64,
    refused: f64,
    /// In microseconds.
    kill_lags: Vec<u64>,
}

/// What came of one rate in all rounds.
struct Rate {
    /// The least, the median and the most, a second.
    finished: [f64; 3],
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
        let (finished, refused) = (sorted(|row| row.finished), sorted(|row| row.refused));
        let mut kill_lags: Vec<u64> = rows.iter().flat_map(|row| &row.kill_lags).copied().collect();
        kill_lags.sort_unstable();
        let finished = [0, ROUNDS / 2, ROUNDS - 1].map(|at| finished[at]);
        Self { finished, refused: refused[ROUNDS / 2], kill_lags }
    }

    /// `most` is the median of the rate at which most were finished.
    fn text(&self, most: f64) -> String {
        let lag = |percent: usize| {
            let at = self.kill_lags.len().saturating_sub(1) * percent / 100;
            self.kill_lags.get(at).map_or("none".into(), |micros| format!("{:.1} ms", *micros as f64 / 1e3))
        };
        let [least, median, highest] = self.finished;
        let span = format!("({least:.0}, {highest:.0})");
        let (of_most, refused) = (100.0 * median / most, 100.0 * self.refused);
        format!("{median:>11.0} {span:>14} {of_most:>10.0} % {refused:>7.0} % {:>13} {:>8}", lag(50), lag(99))
    }
}

async fn offer(rate: u32) -> Row {
    let events = tempfile::NamedTempFile::new().unwrap();
    let limit = format!("{}ms", DEADLINE.as_millis());
    let flags = ["--max-duration", &limit, "--http", "off", "--log-level", "error", "--failures-max", "none"];
    let flags = [&flags[..], &["--events", events.path().to_str().unwrap()]].concat();
    let mut worker = Worker::start(&Subject::ours(), Behaviour::Compute, &flags).await;
    let began = Instant::now();
    let (counts_from, until) = (began + SETTLE, began + RATE_FOR);
    let mut ticks = interval(Duration::from_secs(1) / rate);
    // A driver that is late makes up for it: the rooms do not wait.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut offered, mut finished, mut answered, mut refused) = (0_u64, 0_u64, 0_u64, 0_u64);
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
                Some(ToServer::UpdateJob(UpdateJobStatus { status, .. })) if status == JobStatus::JsSuccess as i32 => {
                    finished += u64::from(Instant::now() >= counts_from);
                }
                Some(_) => {}
                None => break,
            },
            _ = ticks.tick() => {
                offered += 1;
                let metadata = if offered.is_multiple_of(LOOPING_ONE_IN) { "loop" } else { "" };
                let job = worker.peer.offer(metadata).await;
                jobs.insert(job.id.clone(), job);
            }
        }
    }
    worker.stop().await;
    let text = std::fs::read_to_string(events.path()).unwrap();
    let closed = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let kill_lags = closed.filter_map(|line| line["verdict"]["kill_lag_us"].as_u64()).collect();
    let counted = (RATE_FOR - SETTLE).as_secs_f64();
    Row { finished: finished as f64 / counted, refused: refused as f64 / answered.max(1) as f64, kill_lags }
}

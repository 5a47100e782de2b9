//! What a worker finishes when it is offered more than fits: `cargo bench --bench overload`, three minutes.
//!
//! A scripted server offers jobs of a millisecond or so of computing, at a rate that does not wait for answers, as a server of
//! many rooms does; one in fifty loops until it is killed as unresponsive, and shows how late that was. The worker is at its
//! defaults. What fits is found first: the rate at which most jobs finish. The most of several noisy figures is too high a
//! figure, so that rate and twice that rate are then measured anew, in turn, and their medians compared.
//!
//! Bounds: [`RATE_FOR`] for each rate.
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
/// Of each, the first seconds do not count: the load is an average.
const SETTLE: Duration = Duration::from_secs(3);
const RATES: [u32; 6] = [200, 300, 400, 500, 600, 800];
/// Of the best rate and twice that rate, in turn.
const PAIRS: usize = 5;
const LOOPING_ONE_IN: u64 = 50;
const UNRESPONSIVE_AFTER: Duration = Duration::from_millis(100);

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("offers/s  finished/s   refused  kill lag p50      p99");
        let mut best = Row::default();
        for rate in RATES {
            let row = offer(rate).await;
            println!("{}", row.text());
            if row.finished > best.finished {
                best = row;
            }
        }
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            for (rate, finished) in [(best.rate, &mut once), (best.rate * 2, &mut twice)] {
                let row = offer(rate).await;
                println!("{}", row.text());
                finished.push(row.finished);
            }
        }
        let (once, twice) = (median(once), median(twice));
        println!(
            "most finished at {} offers a second: {once:.0}; at twice that {twice:.0}, {:.0} % of it (medians of {PAIRS})",
            best.rate,
            100.0 * twice / once
        );
    });
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What came of one rate.
#[derive(Default)]
struct Row {
    rate: u32,
    /// A second.
    finished: f64,
    refused: f64,
    /// In microseconds, sorted.
    kill_lags: Vec<u64>,
}

impl Row {
    fn text(&self) -> String {
        let lag = |percent: usize| {
            let at = self.kill_lags.len().saturating_sub(1) * percent / 100;
            self.kill_lags.get(at).map_or("none".into(), |micros| format!("{:.1} ms", *micros as f64 / 1e3))
        };
        format!(
            "{:>8} {:>11.0} {:>7.0} % {:>13} {:>8}",
            self.rate,
            self.finished,
            self.refused * 100.0,
            lag(50),
            lag(99)
        )
    }
}

async fn offer(rate: u32) -> Row {
    let events = tempfile::NamedTempFile::new().unwrap();
    let limit = format!("{}ms", UNRESPONSIVE_AFTER.as_millis());
    let flags = ["--unresponsive-timeout", &limit, "--http", "off", "--log-level", "error", "--failures-max", "none"];
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
    let mut kill_lags: Vec<u64> = closed.filter_map(|line| line["usage"]["kill_lag_us"].as_u64()).collect();
    kill_lags.sort_unstable();
    let counted = (RATE_FOR - SETTLE).as_secs_f64();
    Row { rate, finished: finished as f64 / counted, refused: refused as f64 / answered.max(1) as f64, kill_lags }
}

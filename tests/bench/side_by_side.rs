//! wasm-worker beside livekit-agents, each behind the same scripted server, as a table for FIGURES.md:
//! `cargo bench --bench side_by_side`. About five minutes, once livekit-agents is installed in the target directory; without
//! `python3` only our own worker is measured.
//!
//! Both run at their defaults, so either refuses offers when the machine is busy. Each measurement has a worker of its own and
//! begins when that says that it is at rest.
//!
//! Bounds: [`REST_WITHIN`], [`JOB_WITHIN`], [`JOBS_WITHIN`], [`BURST_WITHIN`] and [`LOOP_WITHIN`]; what is not there by then is
//! counted as missing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench that cannot run says why by panicking, and its output is data"
)]

mod process;
mod server;
mod workers;

use std::collections::BTreeMap;
use std::time::Duration;

use livekit_protocol::{JobStatus, UpdateJobStatus, WorkerStatus};
use server::ToServer;
use tokio::time::{Instant, timeout_at};
use workers::{Behaviour, Subject, Worker};

const JOBS: usize = 200;
const BURSTS: [usize; 2] = [60, 1_000];
/// Theirs take a process each.
const WAITING_OURS: usize = 500;
const WAITING_THEIRS: usize = 10;

const REST_LOAD: f32 = 0.2;
const REST_WITHIN: Duration = Duration::from_secs(30);
const JOB_WITHIN: Duration = Duration::from_secs(20);
const JOBS_WITHIN: Duration = Duration::from_secs(180);
const BURST_WITHIN: Duration = Duration::from_secs(60);
const LOOP_WITHIN: Duration = Duration::from_secs(90);
/// In which a worker with new jobs comes to rest.
const MEMORY_AFTER: Duration = Duration::from_secs(5);

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut subjects = vec![Subject::ours()];
    match Subject::theirs() {
        Ok(theirs) => subjects.push(theirs),
        Err(why) => println!("livekit-agents is left out: {why}"),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::select! {
            // Whoever interrupts wants no table; the workers end with the measurement.
            biased;
            _ = tokio::signal::ctrl_c() => eprintln!("interrupted"),
            () = measure(&subjects) => {}
        }
    });
}

async fn measure(subjects: &[Subject]) {
    let mut columns = Vec::new();
    for subject in subjects {
        columns.push(column(subject).await);
    }
    let line = |cells: Vec<&str>| println!("| {} |", cells.join(" | "));
    let names: Vec<String> = subjects.iter().map(Subject::name).collect();
    line([""].into_iter().chain(names.iter().map(String::as_str)).collect());
    line(vec!["---"; subjects.len() + 1]);
    for at in 0..columns[0].len() {
        line(
            [columns[0][at].0.as_str()].into_iter().chain(columns.iter().map(|column| column[at].1.as_str())).collect(),
        );
    }
}

/// What a row is about, and what came out.
type Cell = (String, String);

async fn column(subject: &Subject) -> Vec<Cell> {
    let at_rest = async |behaviour: Behaviour, flags: &[&str]| {
        eprintln!("{}: {} {}", subject.name(), behaviour.metadata(), flags.join(" "));
        let mut worker = Worker::start(subject, behaviour, flags).await;
        if !worker.rest(REST_LOAD, REST_WITHIN).await {
            eprintln!("warning: the machine is busy with other work, and that worker refuses offers for it");
        }
        worker
    };
    let mut cells = one_at_a_time(at_rest(Behaviour::Return, &[]).await).await;
    for offers in BURSTS {
        cells.push(burst(at_rest(Behaviour::Return, &[]).await, offers).await);
    }
    cells.push(("an endless loop, from `JS_RUNNING`".into(), end(at_rest(Behaviour::Loop, &[]).await).await));
    let sooner = match subject {
        Subject::Ours(_) => end(at_rest(Behaviour::Loop, &["--unresponsive-timeout", "2s"]).await).await,
        Subject::Theirs(_) => "no such setting".into(),
    };
    cells.push(("the same with `--unresponsive-timeout 2s`".into(), sooner));
    cells.push(("a panic (an exception), from `JS_RUNNING`".into(), end(at_rest(Behaviour::Crash, &[]).await).await));
    let jobs = match subject {
        Subject::Ours(_) => WAITING_OURS,
        Subject::Theirs(_) => WAITING_THEIRS,
    };
    cells.extend(memory(at_rest(Behaviour::Wait, &[]).await, jobs).await);
    cells
}

impl Worker {
    /// Wait until it takes jobs and has no more load than that; whether that came in time.
    async fn rest(&mut self, load_max: f32, within: Duration) -> bool {
        let until = Instant::now() + within;
        while let Some(heard) = self.peer.hear(until).await {
            if let ToServer::UpdateWorker(status) = heard
                && status.status == Some(WorkerStatus::WsAvailable as i32)
                && status.load <= load_max
            {
                return true;
            }
        }
        false
    }

    /// Offer a job; its id and the time of the offer, when it was accepted, assigned and reported to run.
    async fn begin(&mut self) -> Begun {
        let offered = Instant::now();
        let until = offered + JOB_WITHIN;
        let job = self.peer.offer(self.behaviour.metadata()).await;
        let id = job.id.clone();
        while let Some(heard) = self.peer.hear(until).await {
            match heard {
                ToServer::Availability(answer) if answer.job_id == id && !answer.available => return Begun::Refused,
                ToServer::Availability(answer) if answer.job_id == id => self.peer.assign(job.clone()).await,
                ToServer::UpdateJob(report) if report.job_id == id => {
                    return Begun::Running { id, offered, running: Instant::now() };
                }
                _ => {}
            }
        }
        Begun::Lost
    }

    /// How a job that runs ends.
    async fn end(&mut self, id: &str, until: Instant) -> Option<UpdateJobStatus> {
        while let Some(heard) = self.peer.hear(until).await {
            if let ToServer::UpdateJob(report) = heard
                && report.job_id == id
            {
                return Some(report);
            }
        }
        None
    }

    /// When its entrypoint wrote its line.
    async fn entered(&mut self, id: &str, until: Instant) -> Option<Instant> {
        loop {
            let (entered, at) = timeout_at(until, self.entries.recv()).await.ok()??;
            if entered == id {
                return Some(at);
            }
        }
    }
}

/// What became of an offer.
enum Begun {
    Running {
        id: String,
        offered: Instant,
        running: Instant,
    },
    Refused,
    /// Nothing was heard of it.
    Lost,
}

async fn one_at_a_time(mut worker: Worker) -> Vec<Cell> {
    let (mut running, mut entered, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    let (mut offers, mut refused) = (0, 0);
    let until = Instant::now() + JOBS_WITHIN;
    while ended.len() < JOBS && Instant::now() < until {
        offers += 1;
        match worker.begin().await {
            Begun::Running { id, offered, running: at } => {
                running.push(at - offered);
                let report = worker.end(&id, at + JOB_WITHIN).await;
                let over = Instant::now();
                if report.is_some_and(|report| report.status == JobStatus::JsSuccess as i32) {
                    ended.push(over - offered);
                }
                entered.extend(worker.entered(&id, over + JOB_WITHIN).await.map(|at| at - offered));
            }
            Begun::Refused => {
                refused += 1;
                // A server would not offer it another before it says that it takes some.
                worker.rest(1.0, REST_WITHIN).await;
            }
            Begun::Lost => {}
        }
    }
    worker.stop().await;
    let took = |what: &str, times| (format!("{what}, p50 / p99"), percentiles(times));
    vec![
        took("from an offer until `JS_RUNNING`", running),
        took("until its entrypoint's first line is read", entered),
        took("until `JS_SUCCESS`; it returns at once", ended.clone()),
        (
            "jobs of these figures, one at a time".into(),
            format!("{} of {offers} offers, {refused} refused", ended.len()),
        ),
    ]
}

async fn burst(mut worker: Worker, offers: usize) -> Cell {
    let began = Instant::now();
    let until = began + BURST_WITHIN;
    let mut offered = BTreeMap::new();
    for _ in 0..offers {
        let job = worker.peer.offer(worker.behaviour.metadata()).await;
        offered.insert(job.id.clone(), job);
    }
    let (mut accepted, mut ended, mut succeeded) = (0, 0, 0);
    let (mut last_answer, mut last_end) = (Duration::ZERO, Duration::ZERO);
    while !offered.is_empty() || ended < accepted {
        match worker.peer.hear(until).await {
            Some(ToServer::Availability(answer)) => {
                last_answer = began.elapsed();
                let job = offered.remove(&answer.job_id);
                if let Some(job) = job.filter(|_| answer.available) {
                    accepted += 1;
                    worker.peer.assign(job).await;
                }
            }
            Some(ToServer::UpdateJob(report)) if report.status != JobStatus::JsRunning as i32 => {
                last_end = began.elapsed();
                ended += 1;
                succeeded += usize::from(report.status == JobStatus::JsSuccess as i32);
            }
            Some(_) => {}
            None => break,
        }
    }
    worker.stop().await;
    let unanswered = match offered.len() {
        0 => String::new(),
        unanswered => format!(", {unanswered} never answered"),
    };
    let cell = format!(
        "{accepted} accepted, the last answer after {}{unanswered}; {succeeded} ran to their end, the last after {}",
        time(last_answer),
        time(last_end)
    );
    (format!("{offers} offers at once"), cell)
}

/// How a job ends that is not meant to run on, and what the server hears of it.
async fn end(mut worker: Worker) -> String {
    let mut begun = worker.begin().await;
    let until = Instant::now() + REST_WITHIN;
    while matches!(begun, Begun::Refused) && Instant::now() < until {
        worker.rest(1.0, REST_WITHIN).await;
        begun = worker.begin().await;
    }
    let Begun::Running { id, running, .. } = begun else { return "no job was taken".into() };
    let report = worker.end(&id, running + LOOP_WITHIN).await;
    let took = time(running.elapsed());
    worker.stop().await;
    let Some(report) = report else { return format!("not ended after {took}") };
    let error = match report.error.lines().next() {
        None => "no `error`".into(),
        Some(error) => format!("`{}`", error.replace('|', "\\|")),
    };
    format!("{took}: `{}`, {error}", report.status().as_str_name())
}

async fn memory(mut worker: Worker, wanted: usize) -> Vec<Cell> {
    let idle = worker.private_kilobytes();
    let until = Instant::now() + JOBS_WITHIN;
    let mut jobs = 0;
    while jobs < wanted && Instant::now() < until {
        match worker.begin().await {
            Begun::Running { .. } => jobs += 1,
            Begun::Refused => _ = worker.rest(1.0, REST_WITHIN).await,
            Begun::Lost => {}
        }
    }
    let until = Instant::now() + MEMORY_AFTER;
    while worker.peer.hear(until).await.is_some() {}
    let with_jobs = worker.private_kilobytes();
    worker.stop().await;
    let each = with_jobs.saturating_sub(idle) as f64 / jobs.max(1) as f64;
    vec![
        ("private memory of the idle worker".into(), size(idle as f64)),
        ("and for each job that waits".into(), format!("{} ({jobs} jobs)", size(each))),
    ]
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let percentile = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    match (percentile(50), percentile(99)) {
        (Some(half), Some(most)) => format!("{} / {}", time(*half), time(*most)),
        _ => "none".into(),
    }
}

fn time(time: Duration) -> String {
    match time.as_secs_f64() * 1_000.0 {
        milliseconds if milliseconds < 10.0 => format!("{milliseconds:.2} ms"),
        milliseconds if milliseconds < 1_000.0 => format!("{milliseconds:.0} ms"),
        milliseconds => format!("{:.2} s", milliseconds / 1_000.0),
    }
}

fn size(kilobytes: f64) -> String {
    match kilobytes {
        kilobytes if kilobytes < 1_000.0 => format!("{kilobytes:.1} KiB"),
        kilobytes => format!("{:.1} MiB", kilobytes / 1_024.0),
    }
}

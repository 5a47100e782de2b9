//! `wasm-worker logs`: the log lines of one job, from the worker that runs it or ran it.
//!
//! Bound: a worker keeps the last lines of a job, and the records of its last jobs. With `--follow` the worker is asked again
//! every [`POLL_EVERY`], until the job ends.

use std::time::Duration;

use clap::Args;
use wasm_worker_core::api::worker::JobLog;
use wasm_worker_core::record::{LogLevel, LogLine};
use wasm_worker_core::text::one_line;

use super::remote::{Answer, Audience, Remote, RemoteFlags, each, job_path};
use super::{Exit, Failure, print, print_json, say};

const POLL_EVERY: Duration = Duration::from_millis(500);

#[expect(clippy::struct_excessive_bools, reason = "flags")]
#[derive(Args)]
pub(crate) struct LogsArgs {
    /// Id of the job, as `wasm-worker ps` and `wasm-worker jobs` print it
    #[arg(value_name = "JOB")]
    job: String,
    /// Print further lines until the job ends
    #[arg(long, short)]
    follow: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteFlags,
}

pub(crate) fn run(args: LogsArgs) -> Result<Exit, Failure> {
    let LogsArgs { job, follow, json, remote } = args;
    let workers = remote.of(Audience::Workers)?;
    let (worker, log) = find(&workers, &job)?;
    let mut printer = Printer { next: 0, json };
    let mut ended = log.ended;
    printer.print(&log)?;
    while follow && !ended {
        pause();
        let log = ask(worker, &job, printer.next)?.ok_or_else(|| unknown(&job))?;
        printer.print(&log)?;
        ended = log.ended;
    }
    Ok(Exit::Ok)
}

/// The worker that knows the job, and its first answer.
fn find<'a>(workers: &'a [Remote], job: &str) -> Result<(&'a Remote, JobLog), Failure> {
    let id = job_path(job).ok_or_else(|| unknown(job))?;
    let mut found = None;
    let asked = each(workers, |worker| {
        if found.is_none() {
            found = ask(worker, id, 0)?.map(|log| (worker, log));
        }
        Ok(())
    });
    match found {
        Some(found) => Ok(found),
        // The job may be at a worker that did not answer.
        None => asked.and_then(|()| Err(unknown(job))),
    }
}

/// The kept lines from this number on.
fn ask(worker: &Remote, job: &str, from: u64) -> Result<Option<JobLog>, Failure> {
    match worker.get(&format!("/jobs/{job}/logs?after={from}"))? {
        Answer::Done(log) => Ok(Some(log)),
        Answer::Unknown => Ok(None),
        Answer::Refused(failure) => Err(failure),
    }
}

fn unknown(job: &str) -> Failure {
    let failure = Failure::usage(format!("no worker has a log of the job `{job}`"));
    failure.with_hint(
        "`wasm-worker job ID` names the jobs of a dispatch; a worker that has ended or runs elsewhere needs `--worker URL`",
    )
}

#[expect(clippy::disallowed_methods, reason = "nobody else waits for this thread")]
fn pause() {
    std::thread::sleep(POLL_EVERY);
}

/// Prints each line once.
struct Printer {
    /// The number of the next line.
    next: u64,
    json: bool,
}

impl Printer {
    fn print(&mut self, log: &JobLog) -> Result<(), Failure> {
        for line in &log.lines {
            if line.number < self.next {
                continue;
            }
            if line.number > self.next {
                say(&format!("{} older lines are not kept", line.number - self.next));
            }
            self.next = line.number + 1;
            if self.json { print_json(line)? } else { print(&one_line(&text(line)))? }
        }
        Ok(())
    }
}

fn text(line: &LogLine) -> String {
    let LogLine { at, level, message, fields, .. } = line;
    let level = match level {
        LogLevel::Trace => "TRACE",
        LogLevel::Debug => "DEBUG",
        LogLevel::Info => " INFO",
        LogLevel::Warn => " WARN",
        LogLevel::Error => "ERROR",
    };
    let fields: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    format!("{at:.3} {level} {message}{fields}")
}

//! The results of scenarios, in words and as JSON.

use std::io;
use std::time::Duration;

use serde::Serialize;
use wasm_worker_core::record::{LogLevel, LogLine};
use wasm_worker_core::text::{one_line, plural};
use wasm_worker_sandbox::scenario::{Outcome, Scenario};

use super::super::print_json;

/// Log lines that a failure shows.
const LOG_LINES_SHOWN: usize = 10;

/// A scenario that was played.
pub(super) struct Played {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) outcome: Outcome,
    /// Real time.
    pub(super) took: Duration,
    /// What failed, in one line with its place.
    pub(super) why: Option<String>,
}

impl Played {
    /// `too_late`: the real time after which the scenario was given up.
    pub(super) fn new(scenario: &Scenario, outcome: Outcome, took: Duration, too_late: Option<Duration>) -> Self {
        let (name, file) = (scenario.name.clone(), scenario.file.clone());
        let why = match (too_late, &outcome.failure) {
            (Some(limit), _) => Some(format!(
                "{file}: given up after {limit:?} of real time: the agent or the scenario goes on for ever"
            )),
            (None, Some(failure)) => Some(format!("{file}:{}: {}", failure.line, failure.why)),
            (None, None) => None,
        };
        Self { name, file, outcome, took, why }
    }

    pub(super) fn fuel(&self) -> u64 {
        self.outcome.record.as_ref().map_or(0, |record| record.usage.fuel)
    }

    /// The lines below the first one: the comparison, the backtrace, and the last lines of the log.
    pub(super) fn details(&self) -> Vec<String> {
        let diff = self.outcome.failure.iter().flat_map(|failure| &failure.diff);
        let mut lines: Vec<String> = diff.map(|line| one_line(line).into_owned()).collect();
        if let Some(record) = &self.outcome.record {
            let skipped = record.log.len().saturating_sub(LOG_LINES_SHOWN);
            lines.extend(record.log.iter().skip(skipped).map(log_line));
        }
        lines
    }
}

fn log_line(line: &LogLine) -> String {
    let level = match line.level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    format!("log {level}: {}", one_line(&line.message))
}

/// All results.
pub(super) struct Report {
    pub(super) agent: String,
    pub(super) played: Vec<Played>,
    skipped: usize,
    pub(super) took: Duration,
}

impl Report {
    pub(super) fn new(agent: String, skipped: usize) -> Self {
        Self { agent, played: Vec::new(), skipped, took: Duration::ZERO }
    }

    pub(super) fn add(&mut self, played: Played) {
        self.played.push(played);
    }

    pub(super) fn failed(&self) -> usize {
        self.played.iter().filter(|played| played.why.is_some()).count()
    }

    /// The last line.
    pub(super) fn summary(&self) -> String {
        let (failed, took) = (self.failed(), self.took);
        let passed = self.played.len() - failed;
        let skipped = if self.skipped == 0 { String::new() } else { format!(", {} filtered out", self.skipped) };
        format!("\n{passed} passed, {failed} failed{skipped}, in {took:.1?}")
    }
}

/// The first line.
pub(super) fn head(agent: &str, count: usize) -> String {
    format!("testing `{}` with {}", one_line(agent), plural(count, "scenario"))
}

/// The lines of one scenario.
pub(super) fn in_words(played: &Played) -> String {
    let Played { name, outcome, took, why, .. } = played;
    let name = one_line(name);
    let Some(why) = why else {
        let fuel = played.fuel();
        return format!("✔ {name}  {:.1?} in {took:.1?}, {fuel} fuel", outcome.lasted);
    };
    let mut text = format!("✘ {name}\n  {}", one_line(why));
    played.details().iter().for_each(|line| text.push_str(&format!("\n    {line}")));
    text
}

/// A line of standard output for a scenario.
#[derive(Serialize)]
struct Line<'a> {
    record: &'static str,
    name: &'a str,
    file: &'a str,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
    /// The end code of the job; absent where the agent refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
    fuel: u64,
    memory_peak_bytes: usize,
    /// Virtual time.
    lasted_ms: u128,
    /// Real time.
    took_ms: u128,
}

/// Print the line of one scenario.
pub(super) fn print_line(played: &Played) -> io::Result<()> {
    let Played { name, file, outcome, took, why } = played;
    let record = outcome.record.as_ref();
    print_json(&Line {
        record: "scenario",
        name,
        file,
        passed: why.is_none(),
        line: outcome.failure.as_ref().map(|failure| failure.line),
        why: why.as_deref(),
        details: if why.is_some() { played.details() } else { Vec::new() },
        end: record.map(|record| record.verdict.code.as_str()),
        fuel: played.fuel(),
        memory_peak_bytes: record.map_or(0, |record| record.usage.memory_peak_bytes),
        lasted_ms: outcome.lasted.as_millis(),
        took_ms: took.as_millis(),
    })
}

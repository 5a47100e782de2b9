//! The summary of jobs, for people.

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use tokio::time::Instant;

use super::terminal::paragraph;
use super::{Exit, verdict};
use wasm_worker_core::language::Language;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::refusal::{Reason, Refusal};
use wasm_worker_core::text::plural;
use wasm_worker_core::verdict::{Class, Code};
use wasm_worker_sandbox::engine::ticker::TickerReport;

/// The verdict, the backtrace and the usage of one job, with advice in the words of the agent's language.
pub(crate) fn describe(closed: &JobRecord, language: Option<Language>) -> String {
    let (verdict, usage) = (&closed.verdict, &closed.usage);
    let mut lines = vec![format!("{} {}: {}", verdict::mark(verdict), verdict.code, verdict.detail)];
    lines.extend(verdict::details(verdict));
    let time = |micros: u64| format!("{:?}", Duration::from_micros(micros));
    lines.push(format!("  job      {} in room `{}`", closed.job, closed.room));
    lines.push(format!("  fuel     {}", usage.fuel));
    lines.push(format!(
        "  time     {} in all: {} waiting, {} running, {} of CPU",
        time(usage.wall_us),
        time(usage.wait_us),
        time(usage.run_us),
        time(usage.cpu_us)
    ));
    if let Some(start) = usage.start_us {
        lines.push(format!("  start    {} from the admission to the first step", time(start)));
    }
    if usage.prewarm.fuel > 0 {
        lines.push(format!(
            "  prewarm  {} fuel, {} of CPU, in the instance of this job",
            usage.prewarm.fuel,
            time(usage.prewarm.cpu_us)
        ));
    }
    lines.push(format!("  memory   {} at the peak", ByteSize::b(usage.memory_peak_bytes as u64)));
    lines.push(format!("  log      {} lines, {} dropped", usage.log_lines, usage.log_dropped));
    if verdict.code.class() != Class::Ok {
        lines.push(format!("hint: {}", verdict.advice(language)));
    }
    paragraph(&lines)
}

/// The outcomes of many offers.
pub(crate) struct Summary {
    began: Instant,
    codes: BTreeMap<&'static str, Group>,
    worst: Class,
    refused: BTreeMap<Reason, Group>,
    refused_as: Exit,
    fuel: Vec<u64>,
    start_us: Vec<u64>,
    cpu_us: u64,
    prewarm_cpu_us: u64,
    killed: usize,
    pub(crate) not_started: usize,
    pub(crate) lost: usize,
    /// The last job that ended.
    pub(crate) last: Option<JobRecord>,
}

impl Summary {
    pub(crate) fn begin() -> Self {
        Self {
            began: Instant::now(),
            codes: BTreeMap::new(),
            worst: Class::Ok,
            refused: BTreeMap::new(),
            refused_as: Exit::Ok,
            fuel: Vec::new(),
            start_us: Vec::new(),
            cpu_us: 0,
            prewarm_cpu_us: 0,
            killed: 0,
            not_started: 0,
            lost: 0,
            last: None,
        }
    }

    pub(crate) fn closed(&mut self, closed: &JobRecord) {
        let code = closed.verdict.code;
        self.codes.entry(code.as_str()).or_default().add(&closed.verdict.detail);
        self.worst = self.worst.max(code.class());
        self.fuel.push(closed.usage.fuel);
        self.start_us.extend(closed.usage.start_us);
        self.cpu_us += closed.usage.cpu_us;
        self.prewarm_cpu_us += closed.usage.prewarm.cpu_us;
        self.killed += usize::from(matches!(code, Code::Killed | Code::ShutdownTimeout));
        self.last = Some(closed.clone());
    }

    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.refused.entry(refusal.reason).or_default().add(&refusal.detail);
        self.refused_as = self.refused_as.max(exit_of(refusal));
    }

    /// The number of jobs that an interrupt cut short.
    pub(crate) fn cut_short(&self) -> usize {
        self.killed
    }

    /// The exit status of the worst outcome.
    pub(crate) fn exit(&self) -> Exit {
        if self.lost > 0 {
            return Exit::Host;
        }
        match self.worst {
            Class::Ok => self.refused_as,
            class => class.into(),
        }
    }

    pub(crate) fn text(&self, ticker: TickerReport) -> String {
        let took = self.began.elapsed();
        let ended: usize = self.codes.values().map(|group| group.count).sum();
        let mut lines = Vec::new();
        for (code, Group { count, sample }) in &self.codes {
            let well = *code == Code::Completed.as_str();
            let sample = if well { String::new() } else { format!(", for example: {sample}") };
            lines.push(format!("{count:>8} {code}{sample}"));
        }
        for (reason, Group { count, sample }) in &self.refused {
            lines.push(format!("{count:>8} refused, {reason}, for example: {sample}"));
        }
        if ended > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = ended as f64 / took.as_secs_f64();
            lines.push(format!("  {} in {took:.2?}, {rate:.0} a second", plural(ended, "job")));
            lines.push(format!("  fuel per job   {}", spread(&self.fuel)));
            lines.push(format!("  start (µs)     {}", spread(&self.start_us)));
            let mean = |micros: u64| Duration::from_micros(micros / ended as u64);
            lines.push(format!(
                "  CPU per job    {:?}, and {:?} for its prewarm",
                mean(self.cpu_us),
                mean(self.prewarm_cpu_us)
            ));
            lines.push(format!(
                "  epoch thread   {} ticks, {} late, {:?} at worst",
                ticker.ticks, ticker.late, ticker.worst
            ));
        }
        paragraph(&lines)
    }
}

/// The jobs that ended in the same way.
#[derive(Default)]
struct Group {
    count: usize,
    /// The detail of the last one.
    sample: String,
}

impl Group {
    fn add(&mut self, detail: &str) {
        self.count += 1;
        detail.clone_into(&mut self.sample);
    }
}

/// A percentile of sorted values; 0 where there are none.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0)
}

/// The exit status of a refusal. A `decide` that failed has the status of its verdict.
pub(crate) fn exit_of(refusal: &Refusal) -> Exit {
    refusal.verdict.as_ref().map_or(Exit::Refused, |verdict| verdict.code.class().into())
}

/// One figure where all are equal, else the minimum, the median, the 99th percentile and the maximum.
fn spread(values: &[u64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = |percent| percentile(&sorted, percent);
    match (at(0), at(100)) {
        (least, most) if least == most => format!("{least} in each"),
        (least, most) => format!("{least} min, {} median, {} p99, {most} max", at(50), at(99)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_names_one_figure_or_four() {
        assert_eq!(spread(&[7, 7, 7]), "7 in each");
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(spread(&values), "1 min, 50 median, 99 p99, 100 max");
        assert_eq!(spread(&[]), "0 in each");
    }
}

//! `wasm-worker:agent/log`: lines of one job, with its fields, at a bounded rate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::HostState;
use super::bindings::wasm_worker::agent::log::{Host, Level};
use super::contract::Attributes;
use super::meter::{Calls, Interface};

/// Longest line that is kept; the rest is cut, and the line says so.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Longest piece of a printed line without a line break.
const PRINTED_BYTES_MAX: usize = 4 << 10;

/// The standard stream that something was printed to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Printed {
    Stdout,
    Stderr,
}

/// The log of one job.
pub(crate) struct JobLog {
    agent: Arc<str>,
    /// Absent in `prewarm`.
    job: Option<String>,
    fields: BTreeMap<String, String>,
    rate: Bucket,
    /// The last line of each standard stream, while it has no end yet.
    unfinished: [Vec<u8>; 2],
    /// What was printed.
    pub(crate) printed: Calls,
    /// Lines written.
    pub(crate) lines: u64,
    /// Lines over the rate, not written.
    pub(crate) dropped: u64,
}

impl JobLog {
    pub(crate) fn new(agent: Arc<str>, lines_per_second: u32) -> Self {
        let rate = Bucket::full(lines_per_second);
        Self {
            agent,
            job: None,
            fields: BTreeMap::new(),
            rate,
            unfinished: Default::default(),
            printed: Calls::default(),
            lines: 0,
            dropped: 0,
        }
    }

    pub(super) fn set_job(&mut self, id: &str) {
        self.job = Some(id.to_owned());
    }

    /// Returns the bytes of the fields that were replaced.
    pub(super) fn set_fields(&mut self, fields: Attributes) -> usize {
        let replaced = |old: String| old.len() + size_of::<(String, String)>();
        fields.into_iter().filter_map(|(name, value)| self.fields.insert(name, value).map(replaced)).sum()
    }

    /// Write one line, or count it as dropped.
    pub(super) fn write(&mut self, level: Level, message: &str, fields: &[(String, String)]) {
        if !self.rate.take(Instant::now()) {
            self.dropped += 1;
            return;
        }
        self.lines += 1;
        // The level of a tracing event is part of its call site, so each level needs one of its own.
        macro_rules! line {
            ($level:ident) => {
                if tracing::enabled!(target: "agent", tracing::Level::$level) {
                    let (agent, job, message) = (&*self.agent, self.job.as_deref(), clip(message));
                    let fields = self.all_fields(fields);
                    tracing::event!(target: "agent", tracing::Level::$level, agent, job, fields, "{message}");
                }
            };
        }
        match level {
            Level::Trace => line!(TRACE),
            Level::Debug => line!(DEBUG),
            Level::Info => line!(INFO),
            Level::Warn => line!(WARN),
            Level::Error => line!(ERROR),
        }
    }

    /// Count from zero again.
    pub(crate) fn reset_counts(&mut self) {
        (self.lines, self.dropped, self.printed) = (0, 0, Calls::default());
    }

    /// Take in what was printed; each finished line is written.
    pub(super) fn print(&mut self, to: Printed, bytes: &[u8]) {
        self.printed.add(bytes.len());
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in piece.chunks(PRINTED_BYTES_MAX) {
                let line = self.unfinished_of(to);
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") || line.len() >= PRINTED_BYTES_MAX {
                    self.end_line(to);
                }
            }
        }
    }

    /// Write what was printed without a line break at the end.
    pub(crate) fn finish(&mut self) {
        self.end_line(Printed::Stdout);
        self.end_line(Printed::Stderr);
    }

    fn unfinished_of(&mut self, to: Printed) -> &mut Vec<u8> {
        let [stdout, stderr] = &mut self.unfinished;
        match to {
            Printed::Stdout => stdout,
            Printed::Stderr => stderr,
        }
    }

    fn end_line(&mut self, to: Printed) {
        let line = std::mem::take(self.unfinished_of(to));
        if line.is_empty() {
            return;
        }
        let (level, stream) = match to {
            Printed::Stdout => (Level::Info, "stdout"),
            Printed::Stderr => (Level::Warn, "stderr"),
        };
        let text = String::from_utf8_lossy(&line);
        self.write(level, text.trim_end(), &[("stream".into(), stream.into())]);
    }

    /// The job's fields and the line's own, as `name=value` pairs; absent where there are none.
    fn all_fields(&self, own: &[(String, String)]) -> Option<String> {
        let of_job = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<String> = of_job.chain(own).map(|(name, value)| format!("{name}={}", clip(value))).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }
}

impl Host for HostState {
    fn write(&mut self, level: Level, message: String, fields: Attributes) -> wasmtime::Result<()> {
        let bytes = message.len() + fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.meter.count(Interface::Log, bytes);
        self.control.log().write(level, &message, &fields);
        Ok(())
    }
}

/// One line of at most [`LINE_BYTES_MAX`]; control characters would let a guest write on the operator's terminal.
fn clip(text: &str) -> String {
    let mut end = text.len().min(LINE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = text.get(..end).unwrap_or_default();
    let mut line: String = kept.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
    if end < text.len() {
        line.push_str(&format!("… ({} bytes in all)", text.len()));
    }
    line
}

/// Lines that may be written now; fills up over a second.
struct Bucket {
    per_second: u32,
    left: f64,
    filled: Instant,
}

impl Bucket {
    fn full(per_second: u32) -> Self {
        Self { per_second, left: per_second.into(), filled: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed: Duration = now.saturating_duration_since(self.filled);
        let full = f64::from(self.per_second);
        self.left = (self.left + passed.as_secs_f64() * full).min(full);
        self.filled = now;
        let there = self.left >= 1.0;
        if there {
            self.left -= 1.0;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let mut bucket = Bucket::full(10);
        let start = bucket.filled;
        assert_eq!((0..100).filter(|_| bucket.take(start)).count(), 10);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| bucket.take(later)).count(), 5);
    }

    #[test]
    fn printed_bytes_become_lines_of_bounded_length() {
        let mut log = JobLog::new("a".into(), 1_000);
        log.print(Printed::Stdout, b"one\ntwo\nthr");
        log.print(Printed::Stdout, b"ee\n");
        assert_eq!(log.lines, 3);
        log.print(Printed::Stderr, &[b'x'; 10 * PRINTED_BYTES_MAX]);
        assert_eq!(log.lines, 13);
        log.print(Printed::Stdout, b"no end");
        log.finish();
        assert_eq!((log.lines, log.printed.bytes), (14, 11 + 3 + 10 * 4096 + 6));
    }

    #[test]
    fn lines_are_clipped_at_a_character_and_cleaned() {
        let long = "ü".repeat(LINE_BYTES_MAX);
        let line = clip(&long);
        assert!(line.ends_with("… (32768 bytes in all)"), "{}", line.len());
        assert_eq!(clip("a\x1b[31mb\nc\td"), "a [31mb c\td");
    }
}

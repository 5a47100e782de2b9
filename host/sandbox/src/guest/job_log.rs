//! The log of one job: the lines that its agent logs and prints, with the job's fields, at a bounded rate.
//!
//! Bounds: `log-rate` lines a second, [`FIELDS_MAX`] fields of the job in [`FIELDS_BYTES_MAX`], each line as long as [`clip`]
//! keeps, [`STDERR_BYTES_MAX`] of standard error, and what [`KeptLog`] bounds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::record::LogLevel;
use wasm_worker_core::text::{LINE_BYTES_MAX, clip};
use wasm_worker_core::usage::Calls;

use super::contract::Attributes;
use super::kept_log::KeptLog;

/// Most fields of the job, which each of its lines carries.
const FIELDS_MAX: usize = 64;
/// Most bytes of the names and values of those fields together.
const FIELDS_BYTES_MAX: usize = 4 << 10;

/// Most bytes of the end of standard error that are kept for the verdict on a trap.
const STDERR_BYTES_MAX: usize = 2 << 10;

/// Longest piece of printed output without a line break that becomes one line.
const PRINTED_BYTES_MAX: usize = 4 << 10;

/// A standard stream that agents print to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Printed {
    Stdout,
    Stderr,
}

/// The log of one job.
pub(crate) struct JobLog {
    agent: Arc<str>,
    /// The id of the job; absent in `prewarm`.
    job: Option<String>,
    /// The job's own fields.
    fields: BTreeMap<String, String>,
    /// The rate of lines that the log shows.
    rate: Bucket,
    /// The rate of lines that are kept and that the log does not show.
    hidden_rate: Bucket,
    /// The last lines of the job. Lines of `prewarm` are not kept.
    pub(crate) kept: KeptLog,
    /// The last line of each standard stream, while it has no end yet.
    unfinished: [Vec<u8>; 2],
    /// The end of standard error, whatever the rate of lines. Allocated at the first byte.
    stderr_end: VecDeque<u8>,
    /// Calls that printed, and their bytes.
    pub(crate) printed: Calls,
    /// Lines written.
    pub(crate) lines: u64,
    /// Lines dropped because they exceeded the rate.
    pub(crate) dropped: u64,
}

impl JobLog {
    /// The log of an instance that has no job yet.
    pub(crate) fn new(agent: Arc<str>, lines_per_second: u32) -> Self {
        let rate = Bucket::full(lines_per_second);
        Self {
            agent,
            job: None,
            fields: BTreeMap::new(),
            rate: rate.clone(),
            hidden_rate: rate,
            kept: KeptLog::default(),
            unfinished: Default::default(),
            stderr_end: VecDeque::new(),
            printed: Calls::default(),
            lines: 0,
            dropped: 0,
        }
    }

    /// Write the following lines as those of this job.
    pub(crate) fn begin(&mut self, job: &str) {
        self.job = Some(job.to_owned());
        self.fields.clear();
        self.stderr_end.clear();
    }

    /// The last lines of standard error in one line, the first of them without its begin where it is long; empty where nothing
    /// was printed there.
    pub(crate) fn last_of_stderr(&self) -> String {
        let bytes: Vec<u8> = self.stderr_end.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        // A cut may leave a part of a character.
        lines.collect::<Vec<_>>().join(" | ").trim_start_matches('\u{fffd}').to_owned()
    }

    /// Set fields of every later line; an empty value removes a field. Too many fields change nothing.
    pub(crate) fn set_fields(&mut self, fields: Attributes) -> Result<(), String> {
        let mut changed = self.fields.clone();
        for (name, value) in fields {
            if value.is_empty() {
                changed.remove(&name);
            } else {
                changed.insert(name, clip(&value));
            }
        }
        let bytes: usize = changed.iter().map(|(name, value)| name.len() + value.len()).sum();
        if changed.len() > FIELDS_MAX || bytes > FIELDS_BYTES_MAX {
            let fields = changed.len();
            return Err(format!(
                "{fields} log fields of {bytes} bytes, want at most {FIELDS_MAX} of {FIELDS_BYTES_MAX} bytes"
            ));
        }
        self.fields = changed;
        Ok(())
    }

    /// Write one line, or count it as dropped.
    ///
    /// The job's kept lines are those that the log shows, and all from `info` up, so that they are there when the log shows
    /// warnings only. Lines that are only kept have a rate of their own and are in no count. Other lines cost nothing.
    pub(crate) fn write(&mut self, level: LogLevel, message: &str, fields: &[(&str, &str)]) {
        let shown = is_shown(level);
        let admitted = if shown {
            self.admit()
        } else {
            self.job.is_some() && level >= LogLevel::Info && self.hidden_rate.take(Instant::now())
        };
        if !admitted {
            return;
        }
        let (message, fields) = (clip(message), self.all_fields(fields));
        if shown {
            self.show(level, &message, &fields);
        }
        if self.job.is_some() {
            self.kept.push(level, message, fields);
        }
    }

    /// Write one line to the worker's log.
    fn show(&self, level: LogLevel, message: &str, fields: &BTreeMap<String, String>) {
        let (agent, job) = (&*self.agent, self.job.as_deref());
        let fields = if fields.is_empty() { None } else { serde_json::to_string(fields).ok() };
        // The level of a tracing event is part of its call site, so each level needs one of its own.
        macro_rules! line {
            ($level:ident) => {
                tracing::event!(target: "agent", tracing::Level::$level, agent, job, fields, "{message}")
            };
        }
        match level {
            LogLevel::Trace => line!(TRACE),
            LogLevel::Debug => line!(DEBUG),
            LogLevel::Info => line!(INFO),
            LogLevel::Warn => line!(WARN),
            LogLevel::Error => line!(ERROR),
        }
    }

    fn admit(&mut self) -> bool {
        let admitted = self.rate.take(Instant::now());
        *(if admitted { &mut self.lines } else { &mut self.dropped }) += 1;
        admitted
    }

    /// Count from zero again.
    pub(crate) fn reset_counts(&mut self) {
        (self.lines, self.dropped, self.printed) = (0, 0, Calls::default());
    }

    /// Add printed bytes. Each finished line is written.
    pub(crate) fn print(&mut self, to: Printed, bytes: &[u8]) {
        self.printed.add(bytes.len());
        if matches!(to, Printed::Stderr) {
            self.keep_end(bytes);
        }
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

    fn keep_end(&mut self, bytes: &[u8]) {
        let end = bytes.len().saturating_sub(STDERR_BYTES_MAX);
        self.stderr_end.extend(bytes.get(end..).unwrap_or_default());
        let surplus = self.stderr_end.len().saturating_sub(STDERR_BYTES_MAX);
        self.stderr_end.drain(..surplus);
    }

    /// Write the printed lines that have no line break yet.
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
            Printed::Stdout => (LogLevel::Info, "stdout"),
            Printed::Stderr => (LogLevel::Warn, "stderr"),
        };
        self.write(level, String::from_utf8_lossy(&line).trim_end(), &[("stream", stream)]);
        // The buffer is used again, so that a guest which prints line breaks only costs no allocation for each.
        *self.unfinished_of(to) = line;
        self.unfinished_of(to).clear();
    }

    /// The job's fields and the line's own.
    fn all_fields(&self, own: &[(&str, &str)]) -> BTreeMap<String, String> {
        let of_job = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut left = FIELDS_BYTES_MAX + LINE_BYTES_MAX;
        let mut all = BTreeMap::new();
        for (name, value) in of_job.chain(own.iter().copied()) {
            left = left.saturating_sub(name.len() + value.len());
            if left == 0 {
                all.insert("…".into(), "fields cut here".into());
                break;
            }
            all.insert(name.to_owned(), clip(value));
        }
        all
    }
}

/// Whether the worker's log shows lines of this level.
fn is_shown(level: LogLevel) -> bool {
    match level {
        LogLevel::Trace => tracing::enabled!(target: "agent", tracing::Level::TRACE),
        LogLevel::Debug => tracing::enabled!(target: "agent", tracing::Level::DEBUG),
        LogLevel::Info => tracing::enabled!(target: "agent", tracing::Level::INFO),
        LogLevel::Warn => tracing::enabled!(target: "agent", tracing::Level::WARN),
        LogLevel::Error => tracing::enabled!(target: "agent", tracing::Level::ERROR),
    }
}

/// A token bucket: the number of lines that may be written now. It fills within a second.
#[derive(Clone)]
struct Bucket {
    per_second: u32,
    /// Lines that may be written now.
    left: f64,
    /// The time of the last refill.
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
        // Without a subscriber no level is shown, and without a job no line is kept, so the lines are only cut here.
        let mut log = JobLog::new("a".into(), 1_000);
        log.print(Printed::Stdout, b"one\ntwo\nthr");
        assert_eq!(log.unfinished_of(Printed::Stdout), b"thr");
        log.print(Printed::Stderr, &[b'x'; 10 * PRINTED_BYTES_MAX + 3]);
        assert_eq!(log.unfinished_of(Printed::Stderr), b"xxx");
        log.finish();
        assert!(log.unfinished_of(Printed::Stdout).is_empty());
        assert_eq!((log.printed.calls, log.printed.bytes), (2, 11 + 10 * 4096 + 3));
    }

    #[test]
    fn end_of_standard_error_is_kept_without_that_of_prewarm() {
        let mut log = JobLog::new("a".into(), 0);
        log.print(Printed::Stderr, b"in prewarm\n");
        log.print(Printed::Stdout, b"elsewhere\n");
        assert_eq!(log.last_of_stderr(), "in prewarm");
        log.begin("j");
        assert_eq!(log.last_of_stderr(), "");
        log.print(Printed::Stderr, b"panic: a bug\n\ngorou");
        log.print(Printed::Stderr, b"tine 1:\n");
        assert_eq!(log.last_of_stderr(), "panic: a bug | goroutine 1:");
        log.print(Printed::Stderr, "ü".repeat(5_000).as_bytes());
        log.print(Printed::Stderr, b"!");
        let end = log.last_of_stderr();
        assert!(end.len() <= STDERR_BYTES_MAX && end.starts_with('ü') && end.ends_with("ü!"), "{}", end.len());
    }

    #[test]
    fn fields_of_a_job_are_bounded_and_can_be_removed() {
        let mut log = JobLog::new("a".into(), 1);
        let field = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        log.set_fields(field("room", "a b=c")).unwrap();
        let all = log.all_fields(&[("own", "1")]);
        assert_eq!(serde_json::to_string(&all).unwrap(), r#"{"own":"1","room":"a b=c"}"#);
        log.set_fields(field("room", "")).unwrap();
        assert!(log.all_fields(&[]).is_empty());
        assert!(log.set_fields(field("large", &"x".repeat(FIELDS_BYTES_MAX))).is_err());
    }

    #[test]
    fn lines_of_a_job_are_kept_from_info_up_though_the_log_shows_none() {
        let mut log = JobLog::new("a".into(), 3);
        log.write(LogLevel::Error, "in prewarm", &[]);
        log.begin("j");
        log.print(Printed::Stderr, b"printed\n");
        log.write(LogLevel::Debug, "detail", &[]);
        log.set_fields(vec![("step".into(), "1".into())]).unwrap();
        log.write(LogLevel::Info, "logged", &[("own", "x")]);
        for _ in 0..10 {
            log.write(LogLevel::Info, "again", &[]);
        }
        let (lines, not_kept) = log.kept.take();
        let texts: Vec<_> = lines.iter().map(|line| (line.number, line.level, &*line.message)).collect();
        assert_eq!(
            texts,
            [(0, LogLevel::Warn, "printed"), (1, LogLevel::Info, "logged"), (2, LogLevel::Info, "again")],
            "the rate bounds them"
        );
        assert_eq!(lines[0].fields["stream"], "stderr");
        assert_eq!((&*lines[1].fields["own"], &*lines[1].fields["step"]), ("x", "1"));
        assert_eq!((not_kept, log.lines, log.dropped), (0, 0, 0), "lines that are only kept are in no count");
    }

    #[test]
    fn lines_are_clipped_at_a_character_and_cleaned() {
        let long = "ü".repeat(LINE_BYTES_MAX);
        let line = clip(&long);
        assert!(line.ends_with("… (16384 bytes in all)"), "{}", line.len());
        assert_eq!(clip("a\x1b[31mb\nc\td"), "a [31mb c\td");
    }
}

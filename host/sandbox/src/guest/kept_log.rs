//! The last log lines of one job, for `wasm-worker logs` and for the job's record.
//!
//! The lines are memory of the worker, not of the job: no guest is charged for them. A job that logs nothing allocates nothing.
//!
//! Bounds: [`LINES_MAX`] lines of [`BYTES_MAX`] bytes together. The oldest lines go first, and are counted.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use wasm_worker_core::record::{LogLevel, LogLine};
use wasm_worker_core::text::{pair_bytes, text_bytes};

/// Most lines that are kept: a few screens, enough to see what led to the end of a job.
const LINES_MAX: usize = 200;
/// Most memory that kept lines take: at 1,000 jobs, all of them chatty, 64 MiB of a worker's memory.
const BYTES_MAX: usize = 64 << 10;

/// Fields in a node of a B-tree map, at least.
const FIELDS_PER_NODE: usize = 5;
/// Memory of a node of a B-tree map from text to text: 11 pairs.
const NODE_BYTES: usize = 11 * 2 * size_of::<String>();

/// The last log lines of one job.
#[derive(Debug, Default)]
pub(crate) struct KeptLog {
    lines: VecDeque<LogLine>,
    /// Memory of `lines`, in bytes.
    bytes: usize,
    /// The number of the next line.
    next: u64,
    /// Lines that were removed because newer ones came.
    removed: u64,
}

impl KeptLog {
    /// Keep one more line, and remove the oldest lines that are over the bounds.
    pub(super) fn push(&mut self, level: LogLevel, message: String, fields: BTreeMap<String, String>) {
        let line = LogLine { number: self.next, at: Timestamp::now(), level, message, fields };
        self.next += 1;
        self.bytes += bytes_of(&line);
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(bytes_of(&oldest));
            self.removed += 1;
        }
    }

    /// The kept lines whose number is `after` or higher, and the number of lines that are no longer kept.
    pub(crate) fn read(&self, after: u64) -> (Vec<LogLine>, u64) {
        (self.lines.iter().filter(|line| line.number >= after).cloned().collect(), self.removed)
    }

    /// Move the kept lines out, with the number of lines that are no longer kept.
    pub(crate) fn take(&mut self) -> (Vec<LogLine>, u64) {
        self.bytes = 0;
        (std::mem::take(&mut self.lines).into(), self.removed)
    }
}

/// Host memory that a line takes, in bytes.
fn bytes_of(line: &LogLine) -> usize {
    let texts =
        text_bytes(&line.message) + line.fields.iter().map(|(name, value)| pair_bytes(name, value)).sum::<usize>();
    size_of::<LogLine>() + texts + line.fields.len().div_ceil(FIELDS_PER_NODE) * NODE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(log: &mut KeptLog, message: &str) {
        log.push(LogLevel::Info, message.into(), BTreeMap::from([("stream".into(), "stdout".into())]));
    }

    #[test]
    fn the_last_lines_are_kept_with_their_numbers() {
        let mut log = KeptLog::default();
        for number in 0..LINES_MAX + 10 {
            push(&mut log, &number.to_string());
        }
        let (lines, removed) = log.read(0);
        // The fields take so much that the memory is the tighter bound.
        assert!(lines.len() < LINES_MAX && log.bytes <= BYTES_MAX, "{} lines", lines.len());
        assert_eq!(lines.len() as u64 + removed, log.next);
        assert!(lines.iter().all(|line| line.number.to_string() == line.message));
        let (tail, _) = log.read(LINES_MAX as u64 + 8);
        assert_eq!(tail.iter().map(|line| &*line.message).collect::<Vec<_>>(), ["208", "209"]);
        let (taken, counted) = log.take();
        assert_eq!((taken.len(), counted), (lines.len(), removed));
        assert_eq!(log.read(0), (Vec::new(), removed));
    }

    #[test]
    fn kept_lines_are_bounded_by_number_and_by_memory() {
        let mut log = KeptLog::default();
        for _ in 0..2 * LINES_MAX {
            log.push(LogLevel::Warn, "short".into(), BTreeMap::new());
        }
        assert_eq!((log.lines.len(), log.removed), (LINES_MAX, LINES_MAX as u64));
        push(&mut log, &"x".repeat(BYTES_MAX / 2));
        push(&mut log, &"y".repeat(BYTES_MAX / 2));
        assert!(log.bytes <= BYTES_MAX);
        assert_eq!(log.lines.iter().filter(|line| line.message.len() > 5).count(), 1);
    }
}

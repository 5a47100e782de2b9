//! Everything that the program prints: data on standard output, and texts for people on standard error.
//!
//! Texts of guests, workers and servers are parts of both. A character that could act on a terminal is never written: it becomes a
//! space, and in JSON an escape.
//!
//! Bounds: a text for people has [`PATIENCE`], because nobody may read standard error; [`PENDING_MAX`] of them may be stuck.

use std::env::var_os;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use wasm_worker_core::text::{escaped_json, lines, one_line};

/// Longest wait for standard error.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most texts that standard error has not taken. Further ones are dropped.
const PENDING_MAX: usize = 4;
/// The number of texts that standard error has not taken.
static PENDING: AtomicUsize = AtomicUsize::new(0);

/// Print a text for people, of one line or several. A failure to do so cannot be reported.
pub(crate) fn say(text: &str) {
    if PENDING.fetch_add(1, Ordering::Relaxed) >= PENDING_MAX {
        PENDING.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let text: Arc<str> = format!("{}\n", lines(text)).into();
    let (done, written) = sync_channel(1);
    let for_thread = text.clone();
    let writer = thread::Builder::new().name("standard-error".into()).spawn(move || {
        write(&for_thread);
        done.send(()).ok();
    });
    match writer {
        // The thread may still be stuck when the process ends.
        Ok(_) => drop(written.recv_timeout(PATIENCE)),
        // A process may have no memory for a thread, such as one that compiles.
        Err(_) => write(&text),
    }
}

fn write(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
    PENDING.fetch_sub(1, Ordering::Relaxed);
}

/// Print data, of one line or several.
pub(crate) fn print(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{}", lines(text))
}

/// Print a line of data for another program, byte for byte.
pub(crate) fn print_exactly(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// Print a line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    print_exactly(&escaped_json(serde_json::to_string(value)?))
}

/// Several lines as one text. A line feed inside a line becomes a space.
pub(crate) fn paragraph(lines: &[String]) -> String {
    lines.iter().map(|line| one_line(line)).collect::<Vec<_>>().join("\n")
}

/// Whether standard error may get colours and a progress bar: a terminal that knows escape codes, and no `NO_COLOR`.
pub(crate) fn is_styled() -> bool {
    let unset = |name| var_os(name).is_none_or(|value| value.is_empty());
    let term_knows_codes = var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    io::stderr().is_terminal() && unset("NO_COLOR") && term_knows_codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_paragraph_stays_one_line() {
        let lines = ["✘ failed: a\nerror: forged".to_owned(), "  room \u{1b}[2J\u{202e}".to_owned()];
        assert_eq!(paragraph(&lines), "✘ failed: a error: forged\n  room  [2J ");
    }
}

//! The log, on standard error. A thread of its own writes it, because a stuck terminal must not stop a job.

use std::io::{self, Write};
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use wasm_worker_core::text::{escaped_json, lines};

use super::terminal::{is_styled, say};
use crate::config::{Config, LogFormat};
use crate::observers::Lines;
use crate::observers::sink::Sink;

/// Flushes the log when it is dropped.
pub(crate) struct LogGuard(Option<Arc<Sink>>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(sink) = self.0.take() {
            sink.close();
        }
    }
}

/// The crates of the peer connections.
const WEBRTC: [&str; 3] = ["str0m", "is", "sctp_proto"];

/// Start the log. Without a thread for it, lines go to standard error directly.
pub(crate) fn start(config: &Config, default: LevelFilter) -> LogGuard {
    let sink = Sink::start("log", Lines::new(io::stderr())).ok().map(Arc::new);
    let level = config.log_level.unwrap_or(default);
    // Libraries log warnings and errors only.
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // Their warnings are about what peers send, and a peer could fill the log.
        .with_targets(WEBRTC.map(|target| (target, level.min(LevelFilter::ERROR))))
        .with_target("host", level)
        .with_target("dispatcher", level)
        .with_target("agent", level);
    let shown = match config.log_format {
        LogFormat::Json => Shown::Json,
        LogFormat::Text if is_styled() => Shown::Styled,
        LogFormat::Text => Shown::Plain,
    };
    let lines = fmt::layer().with_writer(LogWriter { sink: sink.clone(), shown });
    let lines = match shown {
        Shown::Json => tracing_subscriber::Layer::boxed(lines.json().flatten_event(true)),
        Shown::Styled | Shown::Plain => {
            tracing_subscriber::Layer::boxed(lines.with_ansi(shown == Shown::Styled).with_target(true))
        }
    };
    // A second start in one process, as in tests, keeps the first.
    drop(tracing_subscriber::registry().with(targets).with(lines).try_init());
    LogGuard(sink)
}

/// The form of log lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// One JSON object.
    Json,
    /// Text with escape codes for colours.
    Styled,
    /// Text without them.
    Plain,
}

impl Shown {
    /// The line without characters of others that act on a terminal. The escape character itself is replaced before colours are
    /// added, by the library.
    fn cleaned(self, line: &str) -> String {
        match self {
            Self::Json => escaped_json(line.to_owned()),
            Self::Plain => lines(line).into_owned(),
            Self::Styled => line.split('\x1b').map(lines).collect::<Vec<_>>().join("\x1b"),
        }
    }
}

/// Makes one writer for each log line.
struct LogWriter {
    sink: Option<Arc<Sink>>,
    shown: Shown,
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine { sink: self.sink.as_deref(), shown: self.shown, line: Vec::new() }
    }
}

/// One log line, which is queued when it is complete.
struct LogLine<'a> {
    sink: Option<&'a Sink>,
    shown: Shown,
    line: Vec<u8>,
}

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let line = self.shown.cleaned(text.trim_end_matches('\n'));
        match self.sink {
            Some(sink) => sink.send(line.into()),
            None => say(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_has_no_foreign_character_that_acts_on_a_terminal() {
        let line = "\x1b[32m INFO\x1b[0m host: a\u{9b}2J\u{7}\u{202e}b";
        assert_eq!(Shown::Styled.cleaned(line), "\x1b[32m INFO\x1b[0m host: a 2J  b");
        assert_eq!(Shown::Plain.cleaned("host: a\x1b[2J\r"), "host: a [2J ");
        assert_eq!(Shown::Json.cleaned("{\"a\":\"\u{9b}\"}"), r#"{"a":"\u009b"}"#);
    }
}

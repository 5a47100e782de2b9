//! The log, on standard error. A thread of its own writes it, because a stuck terminal must not stop a job.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Start the log. Without a thread for it, lines go to standard error directly.
pub(crate) fn start(config: &Config, default: LevelFilter) -> LogGuard {
    let sink = Sink::start("log", Lines::new(io::stderr())).ok().map(Arc::new);
    let level = config.log_level.unwrap_or(default);
    // Libraries log warnings and errors only.
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("host", level)
        .with_target("dispatcher", level)
        .with_target("agent", level);
    let lines = fmt::layer().with_writer(LogWriter(sink.clone()));
    let lines = match config.log_format {
        LogFormat::Json => tracing_subscriber::Layer::boxed(lines.json().flatten_event(true)),
        LogFormat::Text => {
            tracing_subscriber::Layer::boxed(lines.with_ansi(io::stderr().is_terminal()).with_target(true))
        }
    };
    // A second start in one process, as in tests, keeps the first.
    drop(tracing_subscriber::registry().with(targets).with(lines).try_init());
    LogGuard(sink)
}

/// Makes one writer for each log line.
struct LogWriter(Option<Arc<Sink>>);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine { sink: self.0.as_deref(), line: Vec::new() }
    }
}

/// One log line, which is queued when it is complete.
struct LogLine<'a> {
    sink: Option<&'a Sink>,
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
        let line = text.trim_end_matches('\n');
        match self.sink {
            Some(sink) => sink.send(line.into()),
            None => super::say(line),
        }
    }
}

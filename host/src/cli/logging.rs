//! The log, on standard error, written by a thread of its own: a terminal that is stuck must not stop a job.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, LogFormat};

/// Lines that wait for a slow terminal before more are dropped; a guest's line has at most some 20 KiB.
const LINES_MAX: usize = 8_192;

/// Start the log. What is queued is written when the guard is dropped.
pub(crate) fn start(config: &Config, default: LevelFilter) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).finish(std::io::stderr());
    let level = config.log_level.unwrap_or(default);
    // Libraries speak only of what is wrong.
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("host", level)
        .with_target("dispatcher", level)
        .with_target("agent", level);
    let lines = fmt::layer().with_writer(writer);
    let lines = match config.log_format {
        LogFormat::Json => tracing_subscriber::Layer::boxed(lines.json().flatten_event(true)),
        LogFormat::Text => {
            tracing_subscriber::Layer::boxed(lines.with_ansi(std::io::stderr().is_terminal()).with_target(true))
        }
    };
    // A second start in one process, as in tests, keeps the first.
    drop(tracing_subscriber::registry().with(targets).with(lines).try_init());
    guard
}

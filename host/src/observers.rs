//! The observers of events: the log, the metrics, and the sinks that receive every event as a line of JSON.
//!
//! A sink never slows a job. Its lines wait in a bounded queue, a thread of its own writes them, and lines that do not fit are
//! counted.

mod log;
pub(crate) mod sink;

mod command;
mod lines;
mod webhook;

mod event_lines;

pub mod metrics;

use std::sync::Arc;

use wasm_worker_core::observer::{Events, Observer};

pub use event_lines::{EventLines, EventsError};
pub(crate) use lines::Lines;
use log::Log;
use metrics::Metrics;

/// A publisher to the log, to these lines, and to the metrics where there are any.
pub fn publisher(lines: &Arc<EventLines>, metrics: Option<&Arc<Metrics>>) -> Arc<Events> {
    publisher_with(lines, metrics, Vec::new())
}

/// The same with further observers.
pub(crate) fn publisher_with(
    lines: &Arc<EventLines>,
    metrics: Option<&Arc<Metrics>>,
    others: Vec<Box<dyn Observer>>,
) -> Arc<Events> {
    let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(Log)];
    if let Some(metrics) = metrics {
        observers.push(Box::new(metrics.clone()));
    }
    observers.extend(others);
    observers.push(Box::new(lines.clone()));
    Arc::new(Events::new(observers))
}

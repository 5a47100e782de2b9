//! Events as lines of JSON, for the sinks and for followers over HTTP.
//!
//! Bound: a follower may be [`FOLLOWED_LINES`] lines behind; a slower one misses lines, and learns their number.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::Instant;
use wasm_worker_core::event::Event;
use wasm_worker_core::observer::Observer;
use wasm_worker_core::text::escaped_json;

use super::command::CommandLines;
use super::lines::{EventFile, Lines};
use super::sink::Sink;
use super::webhook::Webhook;
use crate::config::{Config, EventTarget};

/// Longest time for the followers to take the last lines.
const FOLLOWERS_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Lines that a slow follower may be behind.
const FOLLOWED_LINES: usize = 1_024;

/// An event sink cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The file cannot be opened for appending.
    #[error("the event file `{}` cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The system provides no thread for the sink.
    #[error("the thread of an event sink cannot start")]
    Thread(#[source] io::Error),
}

/// Writes each event as one line of JSON, to every sink that the settings name and to every follower.
pub struct EventLines {
    sinks: Vec<Sink>,
    followers: broadcast::Sender<Arc<str>>,
}

/// One event with its time.
#[derive(Serialize)]
struct EventLine<'a> {
    at: Timestamp,
    #[serde(flatten)]
    event: &'a Event,
}

impl EventLines {
    /// Open the sink for a file or standard output.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(target: &EventTarget) -> Result<Arc<Self>, EventsError> {
        Ok(Arc::new(Self::for_target(target)?))
    }

    /// Open every sink that the settings name.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(crate) fn open_all(config: &Config) -> Result<Arc<Self>, EventsError> {
        let mut lines = Self::for_target(&config.events)?;
        if let Some(webhook) = Webhook::new(config) {
            lines.sinks.push(Sink::start("webhook", webhook).map_err(EventsError::Thread)?);
        }
        if let Some(command) = &config.event_command {
            lines.sinks.push(Sink::start("command", CommandLines::new(command)).map_err(EventsError::Thread)?);
        }
        Ok(Arc::new(lines))
    }

    fn for_target(target: &EventTarget) -> Result<Self, EventsError> {
        let sink = match target {
            EventTarget::Off => None,
            EventTarget::Stdout => Some(Sink::start("file", Lines::new(io::stdout()))),
            EventTarget::File(path) => {
                let file = EventFile::open(path).map_err(|source| EventsError::Open { path: path.clone(), source })?;
                Some(Sink::start("file", file))
            }
        };
        let sink = sink.transpose().map_err(EventsError::Thread)?;
        let (followers, _) = broadcast::channel(FOLLOWED_LINES);
        Ok(Self { sinks: sink.into_iter().collect(), followers })
    }

    /// Send a line to all sinks and followers. Another process may have published it.
    pub(crate) fn relay(&self, line: Arc<str>) {
        for sink in &self.sinks {
            sink.send(line.clone());
        }
        // There may be no follower.
        drop(self.followers.send(line));
    }

    /// Follow the lines from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<str>> {
        self.followers.subscribe()
    }

    /// Open the event file again at its path, where another program may have moved it away.
    pub(crate) fn reopen(&self) {
        self.sinks.iter().for_each(Sink::reopen);
    }

    /// Wait until the followers have taken the last lines, for [`FOLLOWERS_WITHIN`] at most.
    #[expect(clippy::disallowed_methods, reason = "the callers may wait, and most of them have no runtime")]
    fn wait_for_followers(&self) {
        let until = Instant::now() + FOLLOWERS_WITHIN;
        while !self.followers.is_empty() && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Flush every sink and close it. Waits for a few seconds at most, and then logs how many lines were lost.
    pub(crate) fn close(&self) {
        self.wait_for_followers();
        std::thread::scope(|scope| {
            for sink in &self.sinks {
                scope.spawn(|| sink.close());
            }
        });
    }

    /// For each sink: its name, the lines dropped because its queue was full, and the lines that it failed to write.
    pub(crate) fn losses(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        self.sinks.iter().map(Sink::losses)
    }
}

impl Observer for EventLines {
    fn observe(&self, event: &Event) {
        if self.sinks.is_empty() && self.followers.receiver_count() == 0 {
            return;
        }
        match serde_json::to_string(&EventLine { at: Timestamp::now(), event }) {
            Ok(line) => self.relay(escaped_json(line).into()),
            Err(error) => tracing::error!(target: "host", %error, "the event cannot be serialised"),
        }
    }
}

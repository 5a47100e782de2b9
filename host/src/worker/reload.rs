//! The agent of a worker as it is loaded now: its health, and the reload after a failure, on SIGHUP, or when its file changes.
//!
//! The running jobs keep the version that they started with. A new version that cannot be loaded does not replace the old one.
//!
//! Bounds: one load at a time; requests during a load lead to one more load. The pauses are those of [`Health`].

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wasm_worker_core::event::Event;
use wasm_worker_core::observer::Events;
use wasm_worker_core::text::with_causes;
use wasm_worker_core::usage::millis;
use wasm_worker_core::verdict::Code;
use wasm_worker_sandbox::agent::Agent;

use super::agent_source::{AgentSource, FileStamp, LoadError};
use super::health::{Health, HealthState};
use super::status::AgentEntry;

/// The result of a load, with the version of the file before it was read.
pub(crate) struct LoadedAgent {
    pub(crate) result: Result<Agent, LoadError>,
    pub(crate) stamp: Option<FileStamp>,
}

/// An agent that can be loaded again.
pub(super) struct ReloadableAgent {
    source: Arc<AgentSource>,
    /// None until a load succeeds.
    agent: Option<Arc<Agent>>,
    health: Health,
    /// The load in progress.
    load: Option<LoadInProgress>,
    requests: ReloadRequests,
    file: FileWatch,
    events: Arc<Events>,
    entry: AgentEntry,
    control: Handle,
}

/// A load that runs, with the version of the file before it was read.
struct LoadInProgress {
    task: JoinHandle<Result<Agent, LoadError>>,
    stamp: Option<FileStamp>,
}

/// Whether another load follows the one in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReloadRequests {
    /// No request waits.
    None,
    /// The source may have changed after the load in progress read it.
    Again,
    /// The worker drains, and loads nothing.
    Refused,
}

impl ReloadableAgent {
    pub(super) fn new(
        source: AgentSource,
        loaded: LoadedAgent,
        events: Arc<Events>,
        entry: AgentEntry,
        control: Handle,
    ) -> Self {
        let mut agent = Self {
            agent: None,
            health: Health::new(source.config.failures_max),
            load: None,
            requests: ReloadRequests::None,
            file: FileWatch::default(),
            events,
            entry,
            control,
            source: Arc::new(source),
        };
        agent.on_loaded(loaded);
        agent
    }

    pub(super) fn name(&self) -> &String {
        &self.source.name
    }

    /// The agent for the next offer; none while the agent takes no jobs.
    pub(super) fn available(&self) -> Option<&Arc<Agent>> {
        self.agent.as_ref().filter(|_| self.health.state() == HealthState::Available)
    }

    /// Load the agent again, now or after the load in progress.
    pub(super) fn reload(&mut self) {
        match (self.requests, &self.load) {
            (ReloadRequests::Refused, _) => {}
            (_, Some(_)) => self.requests = ReloadRequests::Again,
            (_, None) => {
                let (source, stamp) = (self.source.clone(), self.source.stamp());
                let task = self.control.spawn(async move { source.load().await });
                self.load = Some(LoadInProgress { task, stamp });
                self.entry.begin_reload();
            }
        }
    }

    /// Start no more loads.
    pub(super) fn refuse_reloads(&mut self) {
        self.requests = ReloadRequests::Refused;
    }

    /// Abort the load in progress.
    pub(super) fn abort(&self) {
        if let Some(load) = &self.load {
            load.task.abort();
        }
    }

    /// Wait for the load in progress; for ever where there is none. The future may be dropped: no result is lost.
    pub(super) async fn next_loaded(&mut self) -> LoadedAgent {
        let Some(LoadInProgress { task, stamp }) = &mut self.load else { return std::future::pending().await };
        let (result, stamp) = (task.await, *stamp);
        self.load = None;
        self.entry.end_reload();
        LoadedAgent { result: result.unwrap_or_else(|panic| Err(LoadError::Panic(panic.to_string()))), stamp }
    }

    /// Apply the result of a load, and begin the next one where it was requested.
    pub(super) fn on_loaded(&mut self, LoadedAgent { result, stamp }: LoadedAgent) {
        self.file.loaded(stamp);
        let agent = self.name().clone();
        match result {
            Ok(new) => {
                let again = self.agent.replace(Arc::new(new)).is_some();
                let was_unavailable = self.health.state() != HealthState::Available;
                self.health.loaded();
                if again {
                    self.events.publish(&Event::AgentReloaded { agent });
                }
                if was_unavailable {
                    self.publish_available();
                }
            }
            Err(error) if self.agent.is_some() => {
                let error = with_causes(&error);
                tracing::error!(target: "host", agent, error, "the new version cannot be loaded; the old version stays");
            }
            Err(error) => {
                self.health.load_failed(Instant::now());
                self.publish_unavailable(with_causes(&error));
            }
        }
        if self.requests == ReloadRequests::Again {
            self.requests = ReloadRequests::None;
            self.reload();
        }
    }

    /// Reload the agent if its file has changed. To be called at each sample of the load.
    pub(super) fn check_file(&mut self) {
        if self.file.check(self.source.stamp()) && self.load.is_none() {
            self.reload();
        }
    }

    /// Record the end of a job, or of an offer that the agent could not decide on.
    pub(super) fn record(&mut self, code: Code) {
        if let Some(why) = self.health.record(Instant::now(), code) {
            self.publish_unavailable(why);
        }
    }

    /// The end of the current pause.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.health.wake_at()
    }

    /// End the current pause if its time has come.
    pub(super) fn end_pause(&mut self, now: Instant) {
        if self.health.end_pause(now) {
            match self.agent {
                Some(_) => self.publish_available(),
                None => self.reload(),
            }
        }
    }

    fn publish_available(&self) {
        self.entry.set_health(HealthState::Available);
        self.events.publish(&Event::AgentAvailable { agent: self.name().clone() });
    }

    fn publish_unavailable(&self, why: String) {
        self.entry.set_health(self.health.state());
        let retry_ms = self.health.pause().map(millis);
        self.events.publish(&Event::AgentUnavailable { agent: self.name().clone(), why, retry_ms });
    }
}

/// Notices new versions of a file. Pure.
#[derive(Debug, Default)]
struct FileWatch {
    /// The version at the last load.
    loaded: Option<FileStamp>,
    /// The version at the last check.
    last: Option<FileStamp>,
}

impl FileWatch {
    fn loaded(&mut self, stamp: Option<FileStamp>) {
        (self.loaded, self.last) = (stamp, stamp);
    }

    /// Whether there is a new version that is complete: a writer may need some time, so the version must be the same at two
    /// checks.
    fn check(&mut self, now: Option<FileStamp>) -> bool {
        let complete = now.is_some() && now == self.last;
        self.last = now;
        complete && now != self.loaded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_loaded_again_when_it_has_stopped_changing() {
        let stamp = |bytes| Some(FileStamp { bytes, ..FileStamp::default() });
        let mut watch = FileWatch::default();
        watch.loaded(stamp(1));
        assert!(!watch.check(stamp(1)), "no change");
        assert!(!watch.check(stamp(2)) && !watch.check(stamp(3)), "it is being written");
        assert!(watch.check(stamp(3)));
        watch.loaded(stamp(3));
        assert!(!watch.check(None) && !watch.check(None), "it was deleted");
        assert!(!watch.check(stamp(3)) && !watch.check(stamp(3)), "the same version came back");
    }
}

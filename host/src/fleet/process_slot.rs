//! One slot of a supervisor: its process, the jobs of that process, and the time of the next start. Pure.
//!
//! Bounds: pauses from [`PAUSE_MIN`] to [`PAUSE_MAX`]; a slot is hopeless after [`DEATHS_MAX`] deaths in a row.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rustix::process::Pid;
use serde::Deserialize;
use tokio::time::Instant;
use wasm_worker_core::backoff::Backoff;

const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A process that lived this long resets the count of deaths.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Deaths in a row after which another start is pointless.
const DEATHS_MAX: u32 = 6;

/// The place of one process and its successors.
pub(super) struct ProcessSlot {
    state: ProcessState,
    /// Counts the deaths in a row, and gives the pause before the next start.
    backoff: Backoff,
    /// Agents of the process that are registered with the server.
    registered: HashSet<String>,
    /// The reason why this process, or the one before it, gave the server up.
    gave_up: Option<String>,
    /// Jobs that were created and not closed, with their agents.
    jobs: HashMap<String, String>,
}

/// The process of a slot.
enum ProcessState {
    /// The next process starts at this moment.
    Waiting {
        start_at: Instant,
    },
    Running(RunningProcess),
    /// No process follows.
    Ended,
}

/// A process that runs.
pub(super) struct RunningProcess {
    pub(super) pid: Option<Pid>,
    /// The name of the process for a dispatcher.
    instance: String,
    started: Instant,
    readiness: Readiness,
}

/// Whether a process handles signals. It does once it has published an event; before, a signal would end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// `reload`: a reload was asked for since it started, and it may have read its agents before.
    Starting {
        reload: bool,
    },
    Ready,
}

/// The fields of a published event that a supervisor reads.
#[derive(Deserialize)]
pub(super) struct PublishedEvent<'a> {
    pub(super) event: &'a str,
    #[serde(default, borrow)]
    job: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    agent: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    why: Option<Cow<'a, str>>,
    #[serde(default)]
    retry_ms: Option<u64>,
}

impl RunningProcess {
    /// A process that was started now. `instance`: its name for a dispatcher.
    pub(super) const fn new(pid: Option<Pid>, instance: String, now: Instant) -> Self {
        Self { pid, instance, started: now, readiness: Readiness::Starting { reload: false } }
    }
}

impl ProcessSlot {
    /// A slot whose first process starts at `start_at`.
    pub(super) fn new(start_at: Instant) -> Self {
        Self {
            state: ProcessState::Waiting { start_at },
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
            registered: HashSet::new(),
            gave_up: None,
            jobs: HashMap::new(),
        }
    }

    /// Whether a process runs or will start.
    pub(super) fn is_in_use(&self) -> bool {
        !matches!(self.state, ProcessState::Ended)
    }

    pub(super) fn running(&self) -> Option<&RunningProcess> {
        match &self.state {
            ProcessState::Running(process) => Some(process),
            ProcessState::Waiting { .. } | ProcessState::Ended => None,
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        !self.registered.is_empty()
    }

    pub(super) fn start_at(&self) -> Option<Instant> {
        match self.state {
            ProcessState::Waiting { start_at } => Some(start_at),
            ProcessState::Running(_) | ProcessState::Ended => None,
        }
    }

    pub(super) fn started(&mut self, process: RunningProcess) {
        self.state = ProcessState::Running(process);
    }

    /// The agents are to be loaded again. The process to tell now; one that starts is told by [`Self::on_published`].
    pub(super) fn reload(&mut self) -> Option<Pid> {
        let ProcessState::Running(process) = &mut self.state else { return None };
        match &mut process.readiness {
            Readiness::Starting { reload } => {
                *reload = true;
                None
            }
            Readiness::Ready => process.pid,
        }
    }

    /// Start no process any more.
    pub(super) fn cancel_start(&mut self) {
        if let ProcessState::Waiting { .. } = self.state {
            self.state = ProcessState::Ended;
        }
    }

    /// Start the next process after a pause.
    pub(super) fn restart_after(&mut self, now: Instant, pause: Duration) {
        self.state = ProcessState::Waiting { start_at: now + pause };
    }

    /// Note the end of the process, and return its name for a dispatcher.
    pub(super) fn exited(&mut self, now: Instant) -> Option<String> {
        self.registered.clear();
        match std::mem::replace(&mut self.state, ProcessState::Ended) {
            ProcessState::Running(process) => {
                if process.started + HEALTHY_AFTER <= now {
                    self.backoff.succeed();
                }
                Some(process.instance)
            }
            ProcessState::Waiting { .. } | ProcessState::Ended => None,
        }
    }

    /// Count a death, and return the pause before the next start. A process that gave the server up has paused and tried
    /// already, so its successor waits longest.
    pub(super) fn count_death(&mut self) -> Duration {
        self.state = ProcessState::Ended;
        let pause = self.backoff.fail();
        if self.gave_up.is_some() { PAUSE_MAX } else { pause }
    }

    /// The jobs that the process took with it.
    pub(super) fn take_jobs(&mut self) -> HashMap<String, String> {
        std::mem::take(&mut self.jobs)
    }

    pub(super) fn gave_up(&self) -> Option<&String> {
        self.gave_up.as_ref()
    }

    /// Whether another start of this process is pointless.
    pub(super) fn is_hopeless(&self, now: Instant) -> bool {
        let healthy = self.running().is_some_and(|process| process.started + HEALTHY_AFTER <= now);
        self.gave_up.is_some() || (self.backoff.failures() >= DEATHS_MAX && !healthy)
    }

    /// Note an event that the process published. The process, where it is to be told now to load its agents again.
    pub(super) fn on_published(&mut self, published: PublishedEvent<'_>) -> Option<Pid> {
        let to_reload = match &mut self.state {
            ProcessState::Running(process) => match std::mem::replace(&mut process.readiness, Readiness::Ready) {
                Readiness::Starting { reload: true } => process.pid,
                Readiness::Starting { reload: false } | Readiness::Ready => None,
            },
            ProcessState::Waiting { .. } | ProcessState::Ended => None,
        };
        match (published.event, published.job, published.agent) {
            ("job.created", Some(job), Some(agent)) => {
                self.jobs.insert(job.into_owned(), agent.into_owned());
            }
            ("job.closed", Some(job), _) => drop(self.jobs.remove(&*job)),
            ("worker.registered", _, Some(agent)) => {
                self.registered.insert(agent.into_owned());
                self.gave_up = None;
            }
            ("link.lost", _, Some(agent)) => {
                self.registered.remove(&*agent);
                if published.retry_ms.is_none() {
                    self.gave_up = published.why.map(Cow::into_owned);
                }
            }
            _ => {}
        }
        to_reload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(started: Instant) -> RunningProcess {
        RunningProcess::new(Pid::from_raw(7), "one".into(), started)
    }

    fn publish(slot: &mut ProcessSlot, line: &str) -> Option<Pid> {
        slot.on_published(serde_json::from_str(line).unwrap())
    }

    #[test]
    fn a_process_that_keeps_dying_is_hopeless_until_one_lives() {
        let now = Instant::now();
        let mut slot = ProcessSlot::new(now);
        for death in 1..=DEATHS_MAX {
            assert!(!slot.is_hopeless(now));
            slot.started(process(now));
            assert_eq!(slot.exited(now).as_deref(), Some("one"));
            let pause = slot.count_death();
            assert_eq!(pause, (PAUSE_MIN * (1 << (death - 1))).min(PAUSE_MAX));
            slot.restart_after(now, pause);
        }
        assert!(slot.is_hopeless(now));
        slot.started(process(now));
        let later = now + HEALTHY_AFTER;
        assert!(slot.is_hopeless(now) && !slot.is_hopeless(later));
        slot.exited(later);
        assert_eq!(slot.count_death(), PAUSE_MIN);
        assert!(!slot.is_in_use());
    }

    #[test]
    fn a_process_that_starts_is_told_to_reload_once_it_handles_signals() {
        const EVENT: &str = r#"{"event":"agent.loaded","agent":"a"}"#;
        let mut slot = ProcessSlot::new(Instant::now());
        assert_eq!(slot.reload(), None, "the next process reads what is there by then");
        slot.started(process(Instant::now()));
        assert_eq!((slot.reload(), slot.reload()), (None, None), "it would end");
        assert_eq!((publish(&mut slot, EVENT), publish(&mut slot, EVENT)), (Pid::from_raw(7), None), "once");
        assert_eq!(slot.reload(), Pid::from_raw(7));
        slot.exited(Instant::now());
        slot.started(process(Instant::now()));
        assert_eq!(publish(&mut slot, EVENT), None, "the process before it was told");
    }

    #[test]
    fn events_show_the_jobs_and_the_registration() {
        let now = Instant::now();
        let mut slot = ProcessSlot::new(now);
        slot.started(process(now));
        publish(&mut slot, r#"{"event":"worker.registered","agent":"a","worker":"AW_1"}"#);
        publish(&mut slot, r#"{"event":"job.created","agent":"a","job":"AJ_1"}"#);
        publish(&mut slot, r#"{"event":"job.created","agent":"a","job":"AJ_2"}"#);
        publish(&mut slot, r#"{"event":"job.closed","agent":"a","job":"AJ_1"}"#);
        assert!(slot.is_registered() && slot.running().unwrap().readiness == Readiness::Ready);
        publish(&mut slot, r#"{"event":"link.lost","agent":"a","why":"gone","retry_ms":100}"#);
        assert!(!slot.is_registered() && slot.gave_up().is_none());
        publish(&mut slot, r#"{"event":"link.lost","agent":"a","why":"gone"}"#);
        slot.exited(now);
        assert_eq!(slot.take_jobs(), HashMap::from([("AJ_2".to_owned(), "a".to_owned())]));
        assert!(slot.is_hopeless(now) && slot.count_death() == PAUSE_MAX);
    }
}

//! The promises that a run checks, against what really happens in the workers. A broken promise is a panic.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Add;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::verdict::Code;

use super::network::ConnectionId;
use crate::store::memory::MemoryStore;

/// The time within which a worker answers an offer: two seconds, and the moment of its timer.
const ANSWER_WITHIN: Duration = Duration::from_millis(2_001);

/// A job in a worker's process.
struct Job {
    dispatch: String,
    /// The process, by its instance id.
    process: String,
}

/// What happened how often. Without faults nothing is lost, attempted again or withdrawn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) events: u64,
    /// Jobs that the dispatcher declared lost.
    pub(super) lost: u64,
    /// Jobs of a dispatch that had another job before.
    pub(super) second_attempts: u64,
    /// Dispatches that ended because their clients cancelled them.
    pub(super) cancelled: u64,
    /// Accepted jobs that a worker released, because they were not assigned.
    pub(super) withdrawn: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            lost: self.lost + other.lost,
            second_attempts: self.second_attempts + other.second_attempts,
            cancelled: self.cancelled + other.cancelled,
            withdrawn: self.withdrawn + other.withdrawn,
        }
    }
}

/// What happened so far.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) counts: Counts,
    /// Offers without an answer, by connection and job.
    offers: BTreeMap<(ConnectionId, String), Instant>,
    /// All jobs that were ever launched.
    launched: BTreeSet<String>,
    /// The dispatches of these jobs.
    attempted: BTreeSet<String>,
    running: BTreeMap<String, Job>,
    /// Jobs that ended in a process that still knows it.
    finished: BTreeMap<String, Job>,
    /// Jobs that the dispatcher declared lost.
    lost: BTreeSet<String>,
    /// Dispatches whose creation was confirmed to the client.
    confirmed: BTreeSet<String>,
    /// Dispatches whose end is stored.
    ended: BTreeSet<String>,
}

impl Checks {
    /// A worker took an offer, to answer it once.
    pub(super) fn offered(&mut self, now: Instant, connection: ConnectionId, job: &str) {
        let before = self.offers.insert((connection, job.to_owned()), now);
        assert!(before.is_none(), "{job} was offered again before its answer, and taken");
    }

    pub(super) fn answered(&mut self, connection: ConnectionId, job: &str) {
        let offer = self.offers.remove(&(connection, job.to_owned()));
        assert!(offer.is_some(), "the offer of {job} was answered twice");
    }

    /// An end of the connection has forgotten its offers.
    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        self.offers.retain(|(other, _), _| *other != connection);
    }

    /// Every offer is answered in time.
    pub(super) fn no_offer_is_overdue(&self, now: Instant) {
        let overdue = self.offers.iter().find(|(_, since)| now - **since > ANSWER_WITHIN);
        assert!(overdue.is_none(), "the offer of {:?} was not answered in time", overdue.map(|((_, job), _)| job));
    }

    pub(super) fn launched(&mut self, store: &MemoryStore, job: &str, dispatch: &str, process: &str) {
        assert!(store.has_job(job), "{job} runs, and its assignment is not stored");
        assert!(self.launched.insert(job.to_owned()), "{job} runs a second time");
        let of_dispatch = |(id, other): (&String, &Job)| (other.dispatch == dispatch).then(|| id.clone());
        let beside = self.running.iter().filter_map(of_dispatch).find(|other| !self.lost.contains(other));
        assert!(beside.is_none(), "{job} and {beside:?} of {dispatch} run at once");
        let again = self.finished.iter().find_map(of_dispatch);
        assert!(again.is_none(), "{job} runs, although {again:?} of {dispatch} has ended");
        self.counts.second_attempts += u64::from(!self.attempted.insert(dispatch.to_owned()));
        let job = (job.to_owned(), Job { dispatch: dispatch.to_owned(), process: process.to_owned() });
        self.running.extend([job]);
    }

    pub(super) fn job_ended(&mut self, job: &str) {
        let entry = self.running.remove_entry(job);
        assert!(entry.is_some(), "{job} ended without having run");
        self.finished.extend(entry.filter(|(job, _)| !self.lost.contains(job)));
    }

    /// A process crashed, with everything that it knew.
    pub(super) fn crashed(&mut self, process: &str) {
        self.running.retain(|_, job| job.process != process);
        self.finished.retain(|_, job| job.process != process);
    }

    /// The dispatcher declares a job lost. `away` is how long the dispatcher has not heard of the job's process.
    pub(super) fn lost(&mut self, job: &str, away: impl FnOnce(&str) -> Option<Duration>, lost_after: Duration) {
        if let Some(Job { process, .. }) = self.running.get(job).or_else(|| self.finished.get(job)) {
            let away = away(process);
            let gone = away.is_some_and(|away| away >= lost_after);
            assert!(gone, "{job} is declared lost, and its process {process} is there (away for {away:?})");
        }
        self.finished.remove(job);
        self.lost.insert(job.to_owned());
        self.counts.lost += 1;
    }

    pub(super) fn confirmed(&mut self, dispatch: &str) {
        self.confirmed.insert(dispatch.to_owned());
    }

    pub(super) fn is_confirmed(&self, dispatch: &str) -> bool {
        self.confirmed.contains(dispatch)
    }

    /// The end of a dispatch is stored.
    pub(super) fn ended(&mut self, dispatch: &str, code: Code) {
        self.counts.cancelled += u64::from(code == Code::Cancelled);
        assert!(self.ended.insert(dispatch.to_owned()), "{dispatch} ended twice");
    }

    /// After the last event, every dispatch that was confirmed has its verdict, and nothing runs.
    pub(super) fn at_the_end(&self, store: &MemoryStore) {
        for dispatch in &self.confirmed {
            assert!(store.end_of(dispatch).is_some(), "{dispatch} was confirmed, and has no verdict");
        }
        assert!(self.running.is_empty(), "{:?} still run", self.running.keys());
        assert!(self.offers.is_empty(), "{:?} have no answer", self.offers.keys());
    }
}

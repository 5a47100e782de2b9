//! Look-ups in the store of jobs that are not open: a worker that returned still has them.
//!
//! Bounds: one look-up runs at a time. [`JOBS_MAX`] jobs wait for one, [`WORKER_JOBS_MAX`] of them of one worker; further ones are not
//! looked up, and end by themselves.

use std::collections::{HashMap, VecDeque};

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Coordinator;
use crate::command::WorkerCommand;
use crate::scheduler::{Id, ToWorker};
use crate::store::Reader;

/// Most jobs that wait for a look-up.
const JOBS_MAX: usize = 20_000;
/// Most jobs of one worker that wait, which one look-up answers.
const WORKER_JOBS_MAX: usize = 2_000;

/// The look-up that runs, and the jobs that wait for one.
pub(super) struct LookUps {
    reader: Reader,
    /// Receives the answers.
    sender: mpsc::WeakSender<WorkerCommand>,
    runs: bool,
    /// The workers whose jobs wait, in order.
    order: VecDeque<Id>,
    waiting: HashMap<Id, Vec<String>>,
    /// The number of jobs that wait.
    jobs: usize,
}

impl LookUps {
    pub(super) fn new(reader: Reader, sender: mpsc::WeakSender<WorkerCommand>) -> Self {
        Self { reader, sender, runs: false, order: VecDeque::new(), waiting: HashMap::new(), jobs: 0 }
    }

    /// Add jobs of a worker, as many as the bounds allow.
    fn add(&mut self, worker: Id, mut jobs: Vec<String>) {
        let waiting = self.waiting.get(&worker).map_or(0, Vec::len);
        jobs.truncate((JOBS_MAX - self.jobs).min(WORKER_JOBS_MAX - waiting));
        if jobs.is_empty() {
            return;
        }
        if waiting == 0 {
            self.order.push_back(worker.clone());
        }
        self.jobs += jobs.len();
        self.waiting.entry(worker).or_default().append(&mut jobs);
    }

    /// Remove the jobs of the next worker.
    fn take_next(&mut self) -> Option<(Id, Vec<String>)> {
        let worker = self.order.pop_front()?;
        let jobs = self.waiting.remove(&worker).unwrap_or_default();
        self.jobs -= jobs.len();
        Some((worker, jobs))
    }
}

impl Coordinator {
    /// Look up jobs that are not open. Those that the store knows belong to ended dispatches, and are stopped.
    pub(super) fn look_up_jobs(&mut self, worker: Id, jobs: Vec<String>) {
        self.look_ups.add(worker, jobs);
        self.look_up_next();
    }

    fn look_up_next(&mut self) {
        if self.look_ups.runs {
            return;
        }
        let Some((worker, jobs)) = self.look_ups.take_next() else { return };
        self.look_ups.runs = true;
        let (reader, sender) = (self.look_ups.reader.clone(), self.look_ups.sender.clone());
        Handle::current().spawn(async move {
            let jobs = reader.known_jobs(jobs).await.unwrap_or_else(|error| {
                tracing::warn!(target: "dispatcher", %error, "cannot look up the jobs of a worker");
                Vec::new()
            });
            if let Some(sender) = sender.upgrade() {
                drop(sender.send(WorkerCommand::StopJobs { worker, jobs }).await);
            }
        });
    }

    /// Stop the jobs that a look-up found, and begin the next look-up.
    pub(super) fn looked_up(&mut self, worker: &Id, jobs: Vec<String>) {
        for job in jobs {
            tracing::warn!(target: "dispatcher", %worker, job, "stopping a job whose dispatch has ended");
            self.send(worker, ToWorker::Terminate { job: job.into() });
        }
        self.look_ups.runs = false;
        self.look_up_next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::StoreSync;
    use crate::store::{Settings, Store};

    #[tokio::test]
    async fn jobs_that_wait_are_bounded_by_worker_and_in_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let settings =
            Settings { path, sync: StoreSync::Checkpoint, bytes_max: 8 << 20, retention: std::time::Duration::MAX };
        let (store, _) = Store::open(settings, 0).unwrap();
        let (sender, _commands) = mpsc::channel(1);
        let mut look_ups = LookUps::new(store.reader(), sender.downgrade());
        let jobs = || vec![String::from("AJ_1"); 1_500];
        for _ in 0..3 {
            (0..50).for_each(|worker: u32| look_ups.add(worker.to_string().into(), jobs()));
        }
        assert_eq!(look_ups.jobs, JOBS_MAX);
        let taken: Vec<usize> = std::iter::from_fn(|| look_ups.take_next()).map(|(_, jobs)| jobs.len()).collect();
        assert_eq!((taken.iter().sum::<usize>(), look_ups.jobs), (JOBS_MAX, 0));
        assert!(taken.iter().all(|jobs| *jobs <= WORKER_JOBS_MAX), "{taken:?}");
        assert!(look_ups.waiting.is_empty());
        store.close().await;
    }
}

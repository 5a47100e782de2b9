//! The jobs of one agent's worker: offers, accepted jobs that wait for their assignment, and jobs that run.
//!
//! Bounds: those of [`AdmissionControl`]; [`QUEUE`] events wait for the worker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol as proto;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wasm_worker_core::event::Event;
use wasm_worker_core::job::{Acceptance, JobInfo};
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::refusal::{Reason, Refusal};
use wasm_worker_protocol::wire::job_info;
use wasm_worker_sandbox::StopBy;
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::job::launch::{Accepted, JobHandle};
use wasm_worker_sandbox::job::offer::Offer;

use super::admission::{AdmissionControl, Fullness, Permit};
use super::drain::DrainStage;
use super::status::{self, WorkerStatus};
use crate::load::recent_jobs::{Cost, Costs};

/// Decisions and ends that wait for the worker. The tasks of further ones wait.
const QUEUE: usize = 1_024;

/// The jobs of one agent.
pub(super) struct Jobs {
    agent_name: String,
    events: Arc<Events>,
    admission: Arc<AdmissionControl>,
    status: Arc<WorkerStatus>,
    control: Handle,
    costs: Costs,
    /// Jobs that the agent accepted, and the server has not assigned.
    accepted: HashMap<String, AcceptedJob>,
    /// Jobs that run, with the time of their launch.
    running: HashMap<String, (Instant, JobHandle)>,
    throttle: FullnessThrottle,
    sender: mpsc::Sender<JobEvent>,
    receiver: mpsc::Receiver<JobEvent>,
}

/// A job that waits for its assignment, with what it holds.
pub(super) struct AcceptedJob {
    info: JobInfo,
    accepted: Accepted,
    permit: Permit,
}

/// A decision of the agent, or the end of a job.
pub(super) enum JobEvent {
    Decided {
        job: String,
        outcome: Result<Box<AcceptedJob>, Refusal>,
    },
    /// The record is absent where the runtime of the guests has ended.
    Ended {
        job: String,
        record: Option<Arc<JobRecord>>,
    },
}

impl Jobs {
    pub(super) fn new(
        agent_name: String,
        events: Arc<Events>,
        admission: Arc<AdmissionControl>,
        status: Arc<WorkerStatus>,
        control: Handle,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self {
            agent_name,
            events,
            admission,
            status,
            control,
            costs: Costs::default(),
            accepted: HashMap::new(),
            running: HashMap::new(),
            throttle: FullnessThrottle::default(),
            sender,
            receiver,
        }
    }

    pub(super) fn running_count(&self) -> usize {
        self.running.len()
    }

    /// Wait for the next event. The future may be dropped: no event is lost.
    pub(super) async fn next_event(&mut self) -> Option<JobEvent> {
        self.receiver.recv().await
    }

    /// Ask the agent about an offer, once there is capacity. The answer arrives as an event. `agent` is none while the agent
    /// takes no jobs.
    pub(super) fn offer(&self, agent: Option<Arc<Agent>>, job: &proto::Job) {
        let (events, admission, sender) = (self.events.clone(), self.admission.clone(), self.sender.clone());
        let info = JobInfo { agent_name: self.agent_name.clone(), ..job_info(job) };
        let cost = self.costs.predict();
        // The ticket is taken before the task starts, so that offers keep their order.
        let ticket = self.admission.enqueue();
        self.control.spawn(async move {
            let job = info.id.clone();
            let outcome = match agent {
                Some(agent) => decide(&agent, info, admission.acquire(ticket, cost).await, &events).await,
                None => {
                    let refusal =
                        Refusal::new(Reason::Unavailable, "the agent is not available after repeated failures");
                    Err(refuse(info, refusal, &events))
                }
            };
            drop(sender.send(JobEvent::Decided { job, outcome }).await);
        });
    }

    /// Keep an accepted job until its assignment, and return how the agent wants to appear.
    pub(super) fn accept(&mut self, job: String, accepted: AcceptedJob) -> Acceptance {
        let acceptance = accepted.accepted.acceptance.clone();
        self.accepted.insert(job, accepted);
        acceptance
    }

    /// Launch an accepted job, and apply the stage of a drain to it.
    pub(super) fn launch(&mut self, job: String, accepted: AcceptedJob, stage: DrainStage) {
        let AcceptedJob { info, accepted, permit } = accepted;
        let running = accepted.launch();
        apply(stage, &running.handle());
        self.status.job_started(&info, running.handle());
        self.running.insert(job.clone(), (Instant::now(), running.handle()));
        let sender = self.sender.clone();
        self.control.spawn(async move {
            let record = running.closed().await.map(status::shorten);
            match &record {
                Some(record) => permit.release(Cost::of_job(record)),
                None => drop(permit),
            }
            drop(sender.send(JobEvent::Ended { job, record }).await);
        });
    }

    /// Take an accepted job out, for its launch or its withdrawal.
    pub(super) fn take_accepted(&mut self, job: &str) -> Option<AcceptedJob> {
        self.accepted.remove(job)
    }

    /// Publish that an accepted job was withdrawn before its launch.
    pub(super) fn publish_withdrawn(&self, job: String, why: &str) {
        self.publish_refusal(job, &Refusal::new(Reason::Withdrawn, why));
    }

    pub(super) fn publish_refusal(&self, job: String, refusal: &Refusal) {
        self.events.publish(&Event::offer_refused(self.agent_name.clone(), job, refusal));
    }

    /// Ask a job to stop, because the server ended it.
    pub(super) fn stop(&self, job: &str) {
        if let Some((_, job)) = self.running.get(job) {
            job.stop(StopBy::Dispatcher, "the server ended the job");
        }
    }

    /// Apply the stage of a drain to every running job.
    pub(super) fn apply_to_all(&self, stage: DrainStage) {
        self.running.values().for_each(|(_, job)| apply(stage, job));
    }

    /// Note the end of a job.
    pub(super) fn ended(&mut self, job: &str, record: Option<&Arc<JobRecord>>) {
        self.running.remove(job);
        self.status.job_ended(job, record.cloned());
        if let Some(record) = record {
            self.costs.learn(Cost::of_job(record));
        }
    }

    /// Note what the running jobs used so far.
    pub(super) fn observe_costs(&mut self, now: Instant) {
        let used = |job: &JobHandle| Duration::from_micros(job.used().0);
        self.costs.observe(self.running.values().map(|(since, job)| (used(job), now - *since)));
    }

    /// Publish a change between full and available, where the throttle allows it.
    pub(super) fn publish_fullness(&mut self, fullness: Fullness) {
        let full = fullness.part >= 1.0;
        if self.throttle.allows(full, Instant::now()) {
            let (agent, jobs, load) = (self.agent_name.clone(), self.admission.jobs(), fullness.load);
            self.events.publish(&match full {
                true => Event::WorkerFull { agent, jobs, load, scarce: fullness.scarce },
                false => Event::WorkerAvailable { agent, jobs, load },
            });
        }
    }
}

/// Limits the rate of `worker.full` and `worker.available`. A worker with few slots changes between the two with each job: the
/// server learns each change, the events show one at most once in [`FullnessThrottle::EVERY`].
#[derive(Default)]
struct FullnessThrottle {
    /// The last published state.
    full: bool,
    /// The time of its publication.
    published: Option<Instant>,
}

impl FullnessThrottle {
    const EVERY: Duration = Duration::from_secs(1);

    /// Whether the state is published now.
    fn allows(&mut self, full: bool, now: Instant) -> bool {
        let allowed = full != self.full && self.published.is_none_or(|at| at + Self::EVERY <= now);
        if allowed {
            (self.full, self.published) = (full, Some(now));
        }
        allowed
    }
}

fn apply(stage: DrainStage, job: &JobHandle) {
    match stage {
        DrainStage::Wait => {}
        DrainStage::Ask => job.stop(StopBy::Drain, "the worker is draining"),
        DrainStage::Kill => job.kill(),
    }
}

async fn decide(
    agent: &Agent,
    info: JobInfo,
    permit: Result<Permit, Refusal>,
    events: &Arc<Events>,
) -> Result<Box<AcceptedJob>, Refusal> {
    match permit {
        Err(refusal) => Err(refuse(info, refusal, events)),
        Ok(permit) => {
            let offer = Offer { info: info.clone(), participants: Vec::new(), script: Arc::default() };
            let accepted = agent.decide(offer, events).await?;
            Ok(Box::new(AcceptedJob { info, accepted, permit }))
        }
    }
}

/// Publish a refusal that the agent did not decide.
fn refuse(job: JobInfo, refusal: Refusal, events: &Events) -> Refusal {
    events.publish(&Event::offer_refused(job.agent_name, job.id, &refusal));
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_fullness_is_published_at_most_once_a_second() {
        let (mut throttle, now) = (FullnessThrottle::default(), Instant::now());
        assert!(!throttle.allows(false, now), "a worker starts as available");
        assert!(throttle.allows(true, now) && !throttle.allows(true, now) && !throttle.allows(false, now));
        assert!(!throttle.allows(true, now + FullnessThrottle::EVERY), "nothing changed in the end");
        assert!(throttle.allows(false, now + FullnessThrottle::EVERY));
    }
}

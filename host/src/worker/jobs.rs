//! The jobs of one agent's worker: offers, accepted jobs that wait for their assignment, and jobs that run.
//!
//! Bounds: those of [`AdmissionControl`] and [`Offers`]; [`QUEUE`] events wait for the worker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol as proto;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wasm_worker_core::event::Event;
use wasm_worker_core::job::{Acceptance, JobInfo, RoomAccess};
use wasm_worker_core::load::{Resource, Scarcity};
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::refusal::{Reason, Refusal};
use wasm_worker_core::room::connection::{RoomOpener, RoomToJoin};
use wasm_worker_core::room::moderation::Moderator;
use wasm_worker_core::verdict::Code;
use wasm_worker_protocol::report::JobEnd;
use wasm_worker_protocol::wire::job_info;
use wasm_worker_sandbox::StopBy;
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::job::launch::JobHandle;

use super::admission::{AdmissionControl, Fullness};
use super::drain::DrainStage;
use super::offers::{AcceptedJob, JobEvent, Offers};
use super::quota::{Quota, Used};
use super::status::{self, WorkerStatus};
use crate::config::Quotas;
use crate::load::recent_jobs::{Cost, Costs};

/// Decisions and ends that wait for the worker. The tasks of further ones wait.
const QUEUE: usize = 1_024;
/// Most events that the worker handles before it looks for signals and frames again.
const EVENTS_AT_ONCE: usize = 64;

/// The jobs of one agent.
pub(super) struct Jobs {
    agent_name: String,
    events: Arc<Events>,
    admission: Arc<AdmissionControl>,
    status: Arc<WorkerStatus>,
    /// The runtime of the guests. The wait for the end of a job is there, so that the end wakes one other thread only.
    guests: Handle,
    offers: Offers,
    costs: Costs,
    /// Jobs that the agent accepted, and the server has not assigned.
    accepted: HashMap<String, AcceptedJob>,
    /// Jobs that run, with the time of their launch.
    running: HashMap<String, (Instant, JobHandle)>,
    throttle: FullnessThrottle,
    /// None for an agent without limits of its own.
    quota: Option<Quota>,
    rooms: RoomsOfAgent,
    sender: mpsc::Sender<JobEvent>,
    receiver: mpsc::Receiver<JobEvent>,
}

/// The rooms that the jobs of one agent join.
pub(super) struct RoomsOfAgent {
    pub(super) opener: Arc<dyn RoomOpener>,
    /// The server of the worker, which has the rooms that come without a URL.
    pub(super) server_url: String,
    /// None where the operator grants no moderation to the agent.
    pub(super) moderator: Option<Arc<dyn Moderator>>,
}

impl Jobs {
    pub(super) fn new(
        (agent_name, quotas): (String, Quotas),
        events: Arc<Events>,
        admission: Arc<AdmissionControl>,
        status: Arc<WorkerStatus>,
        (control, guests): (Handle, Handle),
        rooms: RoomsOfAgent,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let offers = Offers::new(admission.clone(), events.clone(), (&control, guests.clone()), sender.clone());
        Self {
            agent_name,
            events,
            admission,
            status,
            guests,
            offers,
            costs: Costs::default(),
            accepted: HashMap::new(),
            running: HashMap::new(),
            throttle: FullnessThrottle::default(),
            quota: Quota::new(quotas, Instant::now()),
            rooms,
            sender,
            receiver,
        }
    }

    pub(super) fn running_count(&self) -> usize {
        self.running.len()
    }

    /// Wait for the next events, and append them. The future may be dropped: no event is lost.
    pub(super) async fn next_events(&mut self, events: &mut Vec<JobEvent>) {
        // The jobs hold a sender, so the queue does not end.
        self.receiver.recv_many(events, EVENTS_AT_ONCE).await;
    }

    /// Ask the agent about an offer, once there is capacity. The answer arrives as an event. Returns the refusal of an offer that
    /// is not asked about: `agent` is none while the agent takes no jobs. The agent has `jobs` in any state, with this one.
    pub(super) fn offer(&mut self, agent: Option<Arc<Agent>>, job: &proto::Job, jobs: usize) -> Result<(), Refusal> {
        let info = JobInfo { agent_name: self.agent_name.clone(), ..job_info(job) };
        let unavailable = || Refusal::new(Reason::Unavailable, "the agent is not available after repeated failures");
        let cost = self.costs.predict();
        let admitted = self.quota.as_mut().map_or(Ok(()), |quota| quota.admit(jobs, cost.cores));
        let asked = agent.ok_or_else(unavailable).and_then(|agent| {
            admitted?;
            self.offers.ask(agent, info, cost)
        });
        asked.inspect_err(|refusal| self.publish_refusal(job.id.clone(), refusal))
    }

    /// Keep an accepted job until its assignment, and return how the agent wants to appear.
    pub(super) fn accept(&mut self, job: String, accepted: AcceptedJob) -> Acceptance {
        let acceptance = accepted.accepted.acceptance.clone();
        self.accepted.insert(job, accepted);
        acceptance
    }

    /// Launch a job that was accepted, and apply the stage of a drain to it. Without access to its room, the room is only recorded.
    pub(super) fn launch(&mut self, job: String, access: Option<RoomAccess>, stage: impl FnOnce() -> DrainStage) {
        let Some(AcceptedJob { info, accepted, permit }) = self.take_accepted(&job) else { return };
        let room = access.map(|access| self.room_to_join(access));
        let permit = if room.is_some() { permit.with_room() } else { permit };
        let running = accepted.launch(room);
        let handle = running.handle();
        apply(stage(), &handle);
        self.status.job_started(&info, handle.clone());
        self.running.insert(job.clone(), (Instant::now(), handle.clone()));
        let sender = self.sender.clone();
        self.guests.spawn(async move {
            let record = running.closed().await.map(status::shorten);
            let ended = record.map(|record| {
                let cost = Cost::of_job(&record);
                let cost = if handle.opened_a_room() { cost.with_room() } else { cost };
                permit.release(cost);
                (record, cost)
            });
            drop(sender.send(JobEvent::Ended { job, ended }).await);
        });
    }

    fn room_to_join(&self, RoomAccess { url, token }: RoomAccess) -> RoomToJoin {
        let RoomsOfAgent { opener, server_url, moderator } = &self.rooms;
        let (opener, moderator) = (opener.clone(), moderator.clone());
        RoomToJoin { url: url.unwrap_or_else(|| server_url.clone()), token, opener, moderator }
    }

    /// Take an accepted job out, for its withdrawal or its launch.
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

    /// Note the end of a job, and return how it ended.
    pub(super) fn ended(&mut self, job: &str, ended: Option<&(Arc<JobRecord>, Cost)>) -> Box<JobEnd> {
        self.running.remove(job);
        self.status.job_ended(job, ended.map(|(record, _)| record.clone()));
        Box::new(match ended {
            None => JobEnd::new(Code::HostFault, "the runtime of the guests has ended"),
            Some((record, cost)) => {
                self.costs.learn(*cost);
                if let Some(quota) = &mut self.quota {
                    quota.job_ended(&record.usage);
                }
                JobEnd { verdict: record.verdict.clone(), usage: serde_json::to_string(&record.usage).ok() }
            }
        })
    }

    /// Note what the running jobs used so far.
    pub(super) fn observe_costs(&mut self, now: Instant) {
        let used = |job: &JobHandle| Duration::from_micros(job.used().0) + job.sound_cpu();
        self.costs.observe(self.running.values().map(|(since, job)| (used(job), now - *since)));
        if let Some(quota) = &mut self.quota {
            quota.sample(now, self.running.values().map(|(_, job)| Used::of_job(job)));
        }
    }

    /// What keeps the agent itself from one more job, where it has so many in any state.
    pub(super) fn scarcity_of_agent(&self, is_available: bool, jobs: usize) -> Option<Scarcity> {
        if !is_available {
            return Some(Scarcity { resource: Resource::Agent, used: 0.0, limit: 0.0 });
        }
        self.quota.as_ref()?.scarcity(jobs)
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

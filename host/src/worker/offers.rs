//! The offers of one agent: the agent decides about an offer at once where there is capacity, and later about an offer that waits.
//!
//! One task admits or refuses the oldest offer that waits. A refused offer thus needs no task and no timer of its own.
//!
//! Bounds: [`OFFERS_MAX`] offers wait, as long as [`AdmissionControl`] allows.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use wasm_worker_core::event::Event;
use wasm_worker_core::job::JobInfo;
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::refusal::{Reason, Refusal};
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::job::launch::Accepted;
use wasm_worker_sandbox::job::offer::{Offer, OfferedRoom};

use super::admission::{AdmissionControl, Permit, WaitingPlace};
use crate::load::recent_jobs::Cost;

/// Most offers that wait: as many as a connection has.
const OFFERS_MAX: usize = 20_000;

/// A job that waits for its assignment, with what it holds.
pub(super) struct AcceptedJob {
    pub(super) info: JobInfo,
    pub(super) accepted: Accepted,
    pub(super) permit: Permit,
}

/// A decision of the agent, or the end of a job.
pub(super) enum JobEvent {
    Decided {
        job: String,
        outcome: Result<Box<AcceptedJob>, Refusal>,
    },
    /// The record and the cost are absent where the runtime of the guests has ended.
    Ended {
        job: String,
        ended: Option<(Arc<JobRecord>, Cost)>,
    },
}

/// The offers of one agent.
pub(super) struct Offers {
    admission: Arc<AdmissionControl>,
    waiting: mpsc::Sender<WaitingOffer>,
    decider: Decider,
}

/// An offer that waits for capacity.
struct WaitingOffer {
    agent: Arc<Agent>,
    info: JobInfo,
    /// The predicted cost of the job.
    cost: Cost,
    place: WaitingPlace,
}

/// The way from an admitted or refused offer to its event.
#[derive(Clone)]
struct Decider {
    events: Arc<Events>,
    /// The runtime of the guests. The wait for a decision is there, so that the decision wakes one other thread only.
    guests: Handle,
    sender: mpsc::Sender<JobEvent>,
}

impl Offers {
    /// Start the task of the offers that wait. It ends with this value. Decisions go to `sender`.
    pub(super) fn new(
        admission: Arc<AdmissionControl>,
        events: Arc<Events>,
        (control, guests): (&Handle, Handle),
        sender: mpsc::Sender<JobEvent>,
    ) -> Self {
        let (waiting, queue) = mpsc::channel(OFFERS_MAX);
        let decider = Decider { events, guests, sender };
        control.spawn(admit_in_order(queue, admission.clone(), decider.clone()));
        Self { admission, waiting, decider }
    }

    /// Ask the agent about an offer, once there is capacity. The decision arrives as an event.
    pub(super) fn ask(&self, agent: Arc<Agent>, info: JobInfo, cost: Cost) -> Result<(), Refusal> {
        if let Some(permit) = self.admission.try_acquire(cost) {
            self.decider.decide(agent, info, permit);
            return Ok(());
        }
        let offer = WaitingOffer { agent, info, cost, place: self.admission.wait() };
        let full = |_| Refusal::new(Reason::Full, format!("{OFFERS_MAX} offers wait for capacity already"));
        self.waiting.try_send(offer).map_err(full)
    }
}

async fn admit_in_order(mut queue: mpsc::Receiver<WaitingOffer>, admission: Arc<AdmissionControl>, decider: Decider) {
    while let Some(WaitingOffer { agent, info, cost, place }) = queue.recv().await {
        match admission.acquire(place, cost).await {
            Ok(permit) => decider.decide(agent, info, permit),
            Err(refusal) => {
                decider.events.publish(&Event::offer_refused(info.agent_name, info.id.clone(), &refusal));
                decider.send(info.id, Err(refusal)).await;
            }
        }
    }
}

impl Decider {
    /// Ask the agent about an offer for which there is capacity.
    fn decide(&self, agent: Arc<Agent>, info: JobInfo, permit: Permit) {
        let decider = self.clone();
        self.guests.spawn(async move {
            let (job, offer) =
                (info.id.clone(), Offer { info: info.clone(), participants: Vec::new(), room: OfferedRoom::Open });
            let outcome = match agent.decide(offer, &decider.events).await {
                Ok(accepted) => Ok(Box::new(AcceptedJob { info, accepted, permit })),
                Err(refusal) => Err(refusal),
            };
            decider.send(job, outcome).await;
        });
    }

    async fn send(&self, job: String, outcome: Result<Box<AcceptedJob>, Refusal>) {
        // The receiver is gone once the worker has ended.
        drop(self.sender.send(JobEvent::Decided { job, outcome }).await);
    }
}

//! The end of a job: its record is made, and everything that it held is released, on every path.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;
use tokio::time::Instant;
use wasm_worker_core::job::{Acceptance, JobInfo};
use wasm_worker_core::network::traffic::NetworkUse;
use wasm_worker_core::record::{JobRecord, RoomRecord};
use wasm_worker_core::usage::{AudioUse, micros};

use super::instance::Instance;
use super::run::panic_text;
use super::usage;
use wasm_worker_core::event::Event;
use wasm_worker_core::observer::Events;
use wasm_worker_core::verdict::{Code, Verdict};

/// A job that has its verdict and still holds its instance.
pub(super) struct Ended {
    /// The facts of the job.
    pub(super) info: JobInfo,
    /// The agent's acceptance.
    pub(super) acceptance: Acceptance,
    pub(super) instance: Instance,
    /// How the job ended.
    pub(super) verdict: Verdict,
    /// What the agent did in its room.
    pub(super) activity: RoomRecord,
    /// The use of the network.
    pub(super) network: NetworkUse,
    /// The sound that the job heard and spoke.
    pub(super) audio: AudioUse,
    /// The time of the admission.
    pub(super) created: Instant,
    /// The time of the end, by the same clock.
    pub(super) closed: Instant,
    /// The time from the admission to the launch, if there was one.
    pub(super) start_us: Option<u64>,
}

/// Release what a job held, and make its record. The instance and its slots are released before the end is published.
pub(super) fn close(ended: Ended, events: &Events) -> JobRecord {
    let Ended { info, acceptance, mut instance, verdict, activity, network, audio, created, closed, start_us } = ended;
    let (log, log_not_kept) = {
        let control = instance.control();
        let mut log = control.log();
        log.finish();
        log.kept.take()
    };
    let fuel_left = instance.store.get_fuel().unwrap_or(0);
    let state = instance.store.data_mut();
    let mut usage = usage::read(state, fuel_left);
    usage.prewarm = instance.prewarmed.unwrap_or_default();
    let verdict = match catch_unwind(AssertUnwindSafe(|| drop(instance))) {
        Ok(()) => verdict,
        Err(panic) => {
            Verdict::new(Code::HostFault, format!("the teardown of the job panicked: {}", panic_text(&*panic)))
        }
    };
    (usage.network, usage.audio) = (network, audio);
    usage.start_us = start_us;
    usage.wall_us = micros(closed.saturating_duration_since(created));
    let identity = acceptance.identity.unwrap_or_else(|| format!("agent-{}", info.id));
    let closed = JobRecord {
        at: Timestamp::now(),
        job: info.id,
        dispatch: info.dispatch_id,
        attempt: info.attempt,
        agent: info.agent_name,
        room: info.room.name,
        identity,
        verdict,
        usage,
        activity,
        log,
        log_not_kept,
    };
    events.publish(&Event::JobClosed {
        agent: closed.agent.clone(),
        job: closed.job.clone(),
        verdict: Box::new(closed.verdict.clone()),
        usage: Box::new(closed.usage.clone()),
    });
    closed
}

//! The end of a job: its record is read off, and everything it held is given back, on every path.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::instance::Instance;
use super::run::panic_text;
use super::usage::{UsageRecord, micros};
use super::verdict::{Code, Verdict};
use crate::events::{Event, Events};
use crate::hostcalls::contract::{Acceptance, JobInfo};
use crate::hostcalls::room::RoomRecord;

/// A job that has its verdict and still holds its instance.
pub(super) struct Ended {
    pub(super) info: JobInfo,
    pub(super) acceptance: Acceptance,
    pub(super) instance: Instance,
    pub(super) verdict: Verdict,
    pub(super) created: Instant,
    pub(super) start_us: Option<u64>,
    pub(super) kill_lag: Option<Duration>,
}

/// The record of a job that is over.
#[derive(Clone, Debug, Serialize)]
pub struct Closed {
    /// When it ended.
    pub at: Timestamp,
    /// The job's id.
    pub job: String,
    /// The dispatch that asked for it; empty when there was none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dispatch: String,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The agent that ran it.
    pub agent: String,
    /// The room it ran for.
    pub room: String,
    /// The identity it had there.
    pub identity: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What it used.
    pub usage: UsageRecord,
    /// What it did in the room.
    pub activity: RoomRecord,
}

/// Take a job apart. The instance, and with it the slot, is gone before the end is published.
pub(super) fn close(ended: Ended, events: &Events) -> Closed {
    let Ended { info, acceptance, mut instance, verdict, created, start_us, kill_lag } = ended;
    instance.control().log().finish();
    let fuel_left = instance.store.get_fuel().unwrap_or(0);
    let state = instance.store.data_mut();
    let activity = std::mem::take(&mut state.room);
    let mut usage = UsageRecord::of(state, fuel_left);
    usage.prewarm = instance.prewarmed.unwrap_or_default();
    let verdict = match catch_unwind(AssertUnwindSafe(|| drop(instance))) {
        Ok(()) => verdict,
        Err(panic) => Verdict::new(Code::HostFault, format!("taking the job apart panicked: {}", panic_text(&*panic))),
    };
    usage.start_us = start_us;
    usage.kill_lag_us = kill_lag.map(micros);
    usage.wall_us = micros(created.elapsed());
    let identity = acceptance.identity.unwrap_or_else(|| format!("agent-{}", info.id));
    let closed = Closed {
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
    };
    events.publish(&Event::JobClosed {
        agent: closed.agent.clone(),
        job: closed.job.clone(),
        verdict: Box::new(closed.verdict.clone()),
        usage: Box::new(closed.usage.clone()),
    });
    closed
}

//! The end of a job: its record is read off, and everything it held is given back, on every path.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;
use tokio::time::Instant;
use wasm_worker_core::job::{Acceptance, JobInfo};
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::usage::micros;

use super::instance::Instance;
use super::run::panic_text;
use super::usage;
use wasm_worker_core::event::Event;
use wasm_worker_core::observer::Events;
use wasm_worker_core::verdict::{Code, Verdict};

/// A job that has its verdict and still holds its instance.
pub(super) struct Ended {
    pub(super) info: JobInfo,
    pub(super) acceptance: Acceptance,
    pub(super) instance: Instance,
    pub(super) verdict: Verdict,
    pub(super) created: Instant,
    pub(super) start_us: Option<u64>,
}

/// Take a job apart. The instance, and with it the slot, is gone before the end is published.
pub(super) fn close(ended: Ended, events: &Events) -> JobRecord {
    let Ended { info, acceptance, mut instance, verdict, created, start_us } = ended;
    let (log, log_not_kept) = {
        let control = instance.control();
        let mut log = control.log();
        log.finish();
        log.kept.take()
    };
    let fuel_left = instance.store.get_fuel().unwrap_or(0);
    let state = instance.store.data_mut();
    let activity = std::mem::take(&mut state.room);
    let mut usage = usage::read(state, fuel_left);
    usage.prewarm = instance.prewarmed.unwrap_or_default();
    let verdict = match catch_unwind(AssertUnwindSafe(|| drop(instance))) {
        Ok(()) => verdict,
        Err(panic) => Verdict::new(Code::HostFault, format!("taking the job apart panicked: {}", panic_text(&*panic))),
    };
    usage.start_us = start_us;
    usage.wall_us = micros(created.elapsed());
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

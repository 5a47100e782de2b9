//! The course of one job, from its admission to its record.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::Instant;
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::usage::micros;
use wasm_worker_core::verdict::{Code, Verdict};

use super::offer::Admitted;
use super::recorded_room::RecordedRoom;
use super::run::panic_text;
use super::steps::Steps;
use super::supervisor::Supervisor;
use super::teardown::{self, Ended};
use super::world::World;

/// Run one job to its end. A panic of the supervisor ends this job and nothing else.
pub(super) async fn run(admitted: Admitted, created: Instant, events: Arc<Events>) -> JobRecord {
    let Admitted { mut offer, acceptance, template, mut instance } = admitted;
    let participants = std::mem::take(&mut offer.participants);
    let mut world: Box<dyn World> = Box::new(RecordedRoom::new(&offer.info, &acceptance, participants, &offer.room));
    let mut supervisor = Supervisor::new(&offer.info, &template, instance.control(), created, events.clone());
    let lived = AssertUnwindSafe(async {
        let started = offer.info.clone().into();
        if supervisor.begin(&mut instance, &template).await.is_some() {
            Steps::new(&mut supervisor, &mut *world).run(&mut instance, started).await;
        }
    });
    let fault = lived.catch_unwind().await.err();
    let verdict = match (fault, supervisor.take_verdict()) {
        (Some(panic), _) => Verdict::new(Code::HostFault, format!("the supervisor panicked: {}", panic_text(&*panic))),
        (None, Some(verdict)) => verdict,
        (None, None) => Verdict::new(Code::HostFault, "the supervisor ended without a verdict"),
    };
    let start_us = supervisor.life.launched().map(|at| micros(at - created));
    let activity = world.into_record();
    let ended = Ended { info: offer.info, acceptance, instance, verdict, activity, created, start_us };
    teardown::close(ended, &events)
}

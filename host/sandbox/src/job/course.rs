//! The course of one job, from its admission to its record.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::Instant;
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::usage::micros;
use wasm_worker_core::verdict::{Code, Verdict};

use super::offer::{Admitted, OfferedRoom};
use super::played_room::PlayedRoom;
use super::recorded_room::RecordedRoom;
use super::run::panic_text;
use super::steps::Steps;
use super::supervisor::Supervisor;
use super::teardown::{self, Ended};
use super::time::JobTime;
use super::world::World;

/// Run one job to its end. A panic of the supervisor ends this job and nothing else.
pub(super) async fn run(admitted: Admitted, created: Instant, events: Arc<Events>) -> JobRecord {
    let Admitted { mut offer, acceptance, template, mut instance, mut recorder } = admitted;
    let participants = std::mem::take(&mut offer.participants);
    let room = RecordedRoom::new(&offer.info, &acceptance, participants, &offer.room);
    let (mut world, time): (Box<dyn World>, JobTime) = match &offer.room {
        OfferedRoom::Scripted(_) | OfferedRoom::Open => (Box::new(room), JobTime::Real),
        OfferedRoom::Played(play) => {
            (Box::new(PlayedRoom::new(room, play.clone())), JobTime::jumping(created, play.script().began))
        }
    };
    let control = instance.control();
    let mut supervisor = Supervisor::new(&offer.info, &template, control, time, created, events.clone());
    let lived = AssertUnwindSafe(async {
        let started = offer.info.clone().into();
        if supervisor.begin(&mut instance).is_some() {
            let steps = Steps::new(&mut supervisor, &mut *world).recorded_by(recorder.as_mut());
            steps.run(&mut instance, started).await;
        }
    });
    let fault = lived.catch_unwind().await.err();
    let verdict = match (fault, supervisor.take_verdict()) {
        (Some(panic), _) => Verdict::new(Code::HostFault, format!("the supervisor panicked: {}", panic_text(&*panic))),
        (None, Some(verdict)) => verdict,
        (None, None) => Verdict::new(Code::HostFault, "the supervisor ended without a verdict"),
    };
    let start_us = supervisor.life.launched().map(|at| micros(at - created));
    let closed = supervisor.time.now();
    let activity = world.into_record();
    let ended = Ended { info: offer.info, acceptance, instance, verdict, activity, created, closed, start_us };
    let record = teardown::close(ended, &events);
    if let Some(recorder) = recorder {
        recorder.end(&record.verdict, &record.usage).await;
    }
    record
}

//! The course of one job, from its admission to its record.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::Instant;
use wasm_worker_core::job::Acceptance;
use wasm_worker_core::network::connection::NetworkOpener;
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::room::connection::RoomToJoin;
use wasm_worker_core::usage::micros;
use wasm_worker_core::verdict::{Code, Verdict};

use super::joined_room::JoinedRoom;
use super::networked::Networked;
use super::offer::{Admitted, LocalSound, Offer, OfferedRoom};
use super::played_room::PlayedRoom;
use super::recorded_room::RecordedRoom;
use super::run::panic_text;
use super::sounding_room::SoundingRoom;
use super::steps::Steps;
use super::supervisor::Supervisor;
use super::teardown::{self, Ended};
use super::time::JobTime;
use super::world::World;

/// The outside of a job, and its clock.
fn world_of(
    offer: &mut Offer,
    acceptance: &Acceptance,
    created: Instant,
    (room, network): (Option<RoomToJoin>, Option<Arc<dyn NetworkOpener>>),
    events: &Arc<Events>,
) -> (Box<dyn World>, JobTime) {
    let participants = std::mem::take(&mut offer.participants);
    let person = offer.info.participant.as_ref().or(participants.first()).map(|who| who.identity.clone());
    let recorded = |room| RecordedRoom::new(&offer.info, acceptance, participants, room);
    match (&offer.room, room) {
        (OfferedRoom::Open, Some(room)) => {
            let room = JoinedRoom::new(&offer.info, acceptance, room, events.clone());
            (Box::new(Networked::new(room, network)), JobTime::Real)
        }
        (room @ OfferedRoom::Open, None) => (Box::new(Networked::new(recorded(room), network)), JobTime::Real),
        (room @ (OfferedRoom::Scripted(_) | OfferedRoom::Sounding(..)), _) => {
            let sound = if let OfferedRoom::Sounding(_, sound) = room { sound.clone() } else { LocalSound::default() };
            let room = SoundingRoom::new(recorded(room), person.unwrap_or_default(), sound);
            (Box::new(Networked::new(room, network)), JobTime::Real)
        }
        (room @ OfferedRoom::Played(play), _) => {
            let time = JobTime::jumping(created, play.script().began);
            (Box::new(PlayedRoom::new(recorded(room), play.clone())), time)
        }
    }
}

/// Run one job to its end. A panic of the supervisor ends this job and nothing else.
pub(super) async fn run(
    admitted: Admitted,
    created: Instant,
    room: Option<RoomToJoin>,
    network: Option<Arc<dyn NetworkOpener>>,
    events: Arc<Events>,
) -> JobRecord {
    let Admitted { mut offer, acceptance, template, mut instance, mut recorder } = admitted;
    let (mut world, time) = world_of(&mut offer, &acceptance, created, (room, network), &events);
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
    let (network, audio) = (world.network_use(), world.audio_use());
    let activity = world.into_record();
    let ended =
        Ended { info: offer.info, acceptance, instance, verdict, activity, network, audio, created, closed, start_us };
    let record = teardown::close(ended, &events);
    if let Some(recorder) = recorder {
        recorder.end(&record.verdict, &record.usage).await;
    }
    record
}

//! Tracks of the agent.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;

use super::super::SOON;
use super::super::world::{Offers, World};
use super::{FRAME, decoded, share_at, sine, told};
use crate::peer::lines::LINES_MAX;
use crate::session::sound::own::PUBLISHED_WITHIN;
use wasm_worker_core::room::audio::options::OWN_MAX;
use wasm_worker_core::room::audio::{AudioCommand, AudioEvent, LATENESS, Publication};
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;

impl World {
    /// A world whose agent has published a track as operation 2.
    pub(super) fn speaking() -> Self {
        let mut world = Self::joined();
        world.events.clear();
        world.publish(2);
        world.until(SOON, |world| world.is_published(2));
        world
    }

    pub(super) fn is_published(&self, id: u32) -> bool {
        self.has_told(
            |event| matches!(event, RoomEvent::Audio(AudioEvent::Published { id: other, .. }) if *other == id),
        )
    }

    pub(super) fn says(&mut self, id: u32, hz: f64, length: Duration) {
        self.audio(AudioCommand::Write { id, pcm: sine(hz, length) });
    }

    /// The sound that the server has: its times and packets.
    pub(super) fn sound(&self) -> Vec<(u64, Vec<u8>)> {
        let seen = self.place.as_ref().unwrap().peer.sound.iter();
        seen.map(|packet| (packet.time, packet.payload.clone())).collect()
    }
}

#[test]
fn a_track_is_announced_before_its_line_and_its_sound_goes_out_by_the_clock() {
    let mut world = World::joined();
    world.events.clear();
    world.publish(2);
    // What is written before the server knows the track waits.
    world.says(2, 660.0, Duration::from_secs(2));
    world.audio(AudioCommand::Close { id: 2 });
    world.until(SOON * 2, |world| world.has_told(|event| *event == RoomEvent::Done(2)));
    assert_eq!(told(&world), ["published 2 TR_own1", "Playing 2", "Drained 2", "done 2"]);
    let kinds = world.asked(|request| match request {
        Request::AddTrack(track) => Some(format!("announced {} {}", track.cid, track.disable_red)),
        Request::Offer(offer) => Some(format!("offered {}", offer.sdp.matches("a=sendonly").count())),
        _ => None,
    });
    assert_eq!(kinds[..2], ["announced sound-test-1 true", "offered 1"]);
    let place = world.place.as_ref().unwrap();
    let gaps = place.peer.sound.windows(2).map(|pair| (pair[1].at - pair[0].at, pair[1].time - pair[0].time));
    assert!(gaps.clone().all(|gap| gap == (FRAME, 960)), "{:?}", gaps.collect::<Vec<_>>());
    let share = share_at(660.0, &decoded(&world.sound()));
    assert!(share > 0.95, "{share}");
    let numbers = world.session.statistics().audio;
    assert_eq!((usize::try_from(numbers.packets_sent).unwrap(), numbers.frames_late), (place.peer.sound.len(), 0));
    assert_eq!((numbers.lateness[0], numbers.own_tracks), (numbers.packets_sent, 0));
    assert_eq!(numbers.spoken, Duration::from_secs(2));
    // The line ends with the track.
    world.pass(Duration::from_secs(1));
    assert!(world.place.as_ref().unwrap().peer.names.is_empty());
}

#[test]
fn after_a_stall_sound_goes_on_without_a_burst() {
    let mut world = World::speaking();
    world.says(2, 660.0, Duration::from_secs(2));
    world.pass(Duration::from_millis(500));
    world.tick = Duration::from_millis(110);
    world.pass(Duration::from_secs(1));
    world.tick = Duration::ZERO;
    world.until(SOON * 2, |world| told(world).contains(&"Drained 2".to_owned()));
    let packets: Vec<_> = world.place.as_ref().unwrap().peer.sound.iter().map(|packet| packet.at).collect();
    let closest = packets.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
    assert!(closest >= FRAME / 2, "{closest:?}");
    let share = share_at(660.0, &decoded(&world.sound()));
    assert!(share > 0.95, "nothing of it is left out: {share}");
    let numbers = world.session.statistics().audio;
    assert!(numbers.frames_late > 10, "{numbers:?}");
    let late = numbers.lateness[4..].iter().sum::<u64>();
    assert!(late > 0 && numbers.late_by >= LATENESS[3] * u32::try_from(late).unwrap(), "{numbers:?}");
}

#[test]
fn tracks_are_refused_with_a_reason() {
    use proto::request_response::Reason;
    let mut world = World::new();
    world.publish(1);
    assert!({
        world.pass(Duration::ZERO);
        world.has_failed(1, "not-joined")
    });
    let mut world = World::joined();
    for (reason, code) in [
        (Reason::NotAllowed, "not-allowed"),
        (Reason::LimitExceeded, "limit"),
        (Reason::UnsupportedType, "not-supported"),
        (Reason::NotFound, "refused"),
    ] {
        world.events.clear();
        world.refuses_tracks = Some(reason);
        world.publish(2);
        world.until(SOON, |world| world.has_failed(2, code));
    }
    world.refuses_tracks = None;
    for publication in [
        Publication { source: "camera".into(), ..Publication::default() },
        Publication { rate: 44_100, ..Publication::default() },
    ] {
        world.events.clear();
        world.audio(AudioCommand::Publish { id: 3, publication });
        world.pass(Duration::ZERO);
        assert!(world.has_failed(3, "invalid"), "{:?}", world.events);
    }
    world.offers = Offers::Ignored;
    world.publish(4);
    let began = world.now;
    world.until(PUBLISHED_WITHIN * 2, |world| world.has_failed(4, "timeout"));
    assert_eq!(world.now - began, PUBLISHED_WITHIN);
}

#[test]
fn tracks_are_bounded_at_once_and_not_over_time() {
    let mut world = World::joined();
    let most = u32::try_from(OWN_MAX).unwrap();
    (10..=10 + most).for_each(|id| world.publish(id));
    world.until(SOON, |world| (10..10 + most).all(|id| world.is_published(id)));
    assert!(world.has_failed(10 + most, "limit"));
    for id in 10..10 + most {
        world.perform(Command::Cancel { id });
    }
    for id in 100..100 + 2 * u32::try_from(LINES_MAX).unwrap() {
        world.publish(id);
        world.until(SOON, |world| world.is_published(id));
        world.audio(AudioCommand::Close { id });
        world.until(SOON, |world| world.has_told(|event| *event == RoomEvent::Done(id)));
    }
    assert!(world.place.as_ref().unwrap().peer.sections() <= OWN_MAX + 1, "lines are used again");
}

#[test]
fn a_track_goes_on_over_a_resumption_and_again_after_a_new_join() {
    let mut world = World::speaking();
    world.says(2, 660.0, Duration::from_secs(4));
    world.pass(Duration::from_secs(1));
    world.cut_link();
    world.until(SOON, |world| world.connections() == 1);
    world.pass(Duration::from_secs(1));
    let states = world.asked(|request| match request {
        Request::SyncState(state) => Some(state.publish_tracks.clone()),
        _ => None,
    });
    let [tracks] = states.as_slice() else { panic!("{states:?}") };
    assert_eq!((tracks.len(), tracks[0].cid.as_str()), (1, "sound-test-1"));
    assert_eq!(tracks[0].track.as_ref().unwrap().sid, "TR_own1");
    assert!(world.sound().len() > 90, "{} packets", world.sound().len());
    world.events.clear();
    world.place = None;
    world.cut_link();
    world.until(Duration::from_secs(10), |world| told(world).contains(&"Drained 2".to_owned()));
    let story = ["reconnecting", "connected PA_me2", "published 2 TR_own2", "Drained 2"];
    let is_it = |event: &String| !event.starts_with("Writable");
    assert_eq!(told(&world).into_iter().filter(is_it).collect::<Vec<_>>(), story);
    let share = share_at(660.0, &decoded(&world.sound()));
    assert!(share > 0.95, "{share}");
}

#[test]
fn an_offer_that_was_open_at_a_cut_is_made_again_before_the_next_one() {
    let mut world = World::joined();
    world.events.clear();
    world.offers = Offers::Ignored;
    world.publish(2);
    let is_offered =
        |world: &mut World| !world.asked(|request| matches!(request, Request::Offer(_)).then_some(())).is_empty();
    world.until(SOON, is_offered);
    world.offers = Offers::Answered;
    // What is wanted meanwhile comes after it.
    world.publish(3);
    world.cut_link();
    world.until(SOON, |world| world.is_published(2) && world.is_published(3));
    let offers = world.asked(|request| match request {
        Request::Offer(offer) => Some(offer.id),
        _ => None,
    });
    assert_eq!(offers[..3], [2, 2, 3]);
    assert_eq!(world.session.statistics().rejoins, 0);
    world.says(2, 660.0, Duration::from_secs(1));
    world.until(SOON, |world| told(world).contains(&"Drained 2".to_owned()));
}

#[test]
fn moderators_and_agents_mute_a_track() {
    let mut world = World::speaking();
    world.says(2, 660.0, Duration::from_secs(5));
    world.pass(Duration::from_secs(1));
    world.say(Response::Mute(proto::MuteTrackRequest { sid: "TR_own1".into(), muted: true }));
    world.say(Response::Mute(proto::MuteTrackRequest { sid: "TR_else".into(), muted: true }));
    world.pass(Duration::from_millis(100));
    let before = world.sound().len();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.sound().len(), before);
    assert!(told(&world).contains(&"changed TR_own1 true".to_owned()), "{:?}", told(&world));
    let mutes = |world: &World| {
        world.asked(|request| match request {
            Request::Mute(mute) => Some((mute.sid.clone(), mute.muted)),
            _ => None,
        })
    };
    assert!(mutes(&world).is_empty(), "the server knows it");
    world.audio(AudioCommand::Mute { id: 2, muted: false });
    world.until(SOON * 2, |world| told(world).contains(&"Drained 2".to_owned()));
    assert_eq!(mutes(&world), [("TR_own1".to_owned(), false)]);
    assert!(world.sound().len() > before + 100);
}

#[test]
fn mutes_of_both_sides_during_a_cut_are_known_after_it() {
    let mut world = World::speaking();
    world.publish(3);
    world.until(SOON, |world| world.is_published(3));
    world.events.clear();
    world.muted_own = vec!["TR_own1".into()];
    world.cut_link();
    // The request of the agent is lost with the link.
    world.audio(AudioCommand::Mute { id: 3, muted: true });
    world.pass(SOON);
    assert_eq!(told(&world), ["reconnecting", "changed TR_own1 true", "connected PA_me1"]);
    let mutes = world.asked(|request| match request {
        Request::Mute(mute) => Some((mute.sid.clone(), mute.muted)),
        _ => None,
    });
    assert_eq!(mutes, [("TR_own2".to_owned(), true)]);
}

#[test]
fn the_first_who_hears_a_track_is_told_once_and_an_end_by_the_server_fails_it() {
    let mut world = World::speaking();
    for sid in ["TR_own1", "TR_own1", "TR_else"] {
        world.say(Response::TrackSubscribed(proto::TrackSubscribed { track_sid: sid.into() }));
    }
    world.say(Response::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid: "TR_own1".into() }));
    world.until(SOON, |world| world.has_failed(2, "refused"));
    assert_eq!(told(&world), ["published 2 TR_own1", "subscribed 2", "failed 2 refused"]);
}

#[test]
fn tracks_end_before_the_room_does() {
    for ends_by_server in [false, true] {
        let mut world = World::speaking();
        world.says(2, 660.0, Duration::from_secs(10));
        world.pass(Duration::from_millis(500));
        if ends_by_server {
            world.dismiss(proto::DisconnectReason::RoomDeleted, Action::Disconnect);
        } else {
            world.perform(Command::Disconnect);
        }
        world.pass(Duration::from_secs(2));
        let end = told(&world).into_iter().skip(2).collect::<Vec<_>>();
        assert!(
            matches!(&end[..], [failed, over] if failed == "failed 2 not-joined" && over.starts_with("disconnected"))
        );
        assert_eq!(world.session.statistics().audio.bytes_waiting, 0);
        world.publish(3);
        world.pass(Duration::ZERO);
        assert!(world.has_failed(3, "not-joined"));
    }
}

#[test]
fn too_much_sound_ends_the_track() {
    let mut world = World::speaking();
    for _ in 0..8 {
        world.says(2, 660.0, Duration::from_secs(10));
    }
    world.pass(Duration::ZERO);
    assert!(world.has_failed(2, "too-large"), "{:?}", told(&world));
    let failures = told(&world).iter().filter(|event| event.starts_with("failed")).count();
    assert_eq!(failures, 1);
}

#[test]
fn sound_is_not_delayed_by_texts() {
    let mut world = World::speaking();
    world.says(2, 660.0, Duration::from_secs(3));
    for id in 10..40 {
        world.send_text(id, &"x".repeat(100_000));
    }
    world.until(SOON, |world| told(world).contains(&"Drained 2".to_owned()));
    let numbers = world.session.statistics().audio;
    assert_eq!((numbers.frames_late, numbers.lateness[0]), (0, numbers.packets_sent));
}

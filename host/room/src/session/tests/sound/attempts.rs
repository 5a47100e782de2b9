//! Tracks over attempts that fail, cuts while something is negotiated, and lines that are used again.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;

use super::super::SOON;
use super::super::world::{Door, Offers, World};
use super::{decoded, share_at, told, tone};
use crate::session::sound::own::PUBLISHED_WITHIN;
use wasm_worker_core::room::audio::{AudioCommand, HeardId, Rule};
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;

impl World {
    /// A world whose agent joins it, and whose first attempt has come as far as the signalling goes.
    fn entering() -> Self {
        let mut world = Self::new();
        world.has_path = false;
        world.people[0].tracks.push(super::super::world::track("TR_1"));
        world.people[0].tracks.push(super::super::world::track("TR_2"));
        world.perform(Command::Connect { id: 1 });
        world.pass(Duration::from_millis(100));
        world
    }

    /// The first attempt fails; the second one succeeds.
    fn enters_at_the_second_attempt(&mut self) {
        self.cut_link();
        self.has_path = true;
        self.until(SOON, |world| world.has_told(|event| *event == RoomEvent::Done(1)));
    }

    fn offers(&self) -> Vec<u32> {
        self.asked(|request| match request {
            Request::Offer(offer) => Some(offer.id),
            _ => None,
        })
    }

    fn mutes(&self) -> Vec<(String, bool)> {
        self.asked(|request| match request {
            Request::Mute(mute) => Some((mute.sid.clone(), mute.muted)),
            _ => None,
        })
    }
}

#[test]
fn a_track_survives_a_second_attempt_of_the_join() {
    let mut world = World::entering();
    world.publish(2);
    world.says(2, 660.0, Duration::from_secs(1));
    world.audio(AudioCommand::Mark { id: 2, mark: 7 });
    world.until(SOON, |world| world.offers().len() == 1);
    world.pass(Duration::from_millis(50));
    world.enters_at_the_second_attempt();
    world.until(SOON, |world| told(world).contains(&"Drained 2".to_owned()));
    let own = told(&world).into_iter().filter(|event| event.contains(" 2")).collect::<Vec<_>>();
    assert_eq!(own, ["published 2 TR_own2", "Playing 2", "marked 2 7", "Drained 2"]);
    let share = share_at(660.0, &decoded(&world.sound()));
    assert!(share > 0.95, "{share}");
}

#[test]
fn rules_and_subscriptions_survive_a_second_attempt_of_the_join() {
    let mut world = World::entering();
    world.follow(2, Rule::default());
    world.subscribe(3, "TR_1");
    world.subscribe(4, "TR_2");
    world.until(SOON, |world| world.subscriptions().len() == 2);
    // One of the tracks ends before the agent is told of it.
    world.unpublishes("ann", "TR_2");
    world.enters_at_the_second_attempt();
    world.pass(SOON);
    let story = ["started f1 of 2 TR_1", "started 3 TR_1", "failed 4 interrupted"];
    let told = told(&world);
    assert!(story.iter().all(|event| told.contains(&(*event).to_owned())), "{told:?}");
    assert_eq!(world.session.statistics().audio.heard_tracks, 2);
    world.sends("TR_1", &tone(440.0, 50), 0);
    world.pass(Duration::from_secs(1));
    assert!(share_at(440.0, &world.heard(HeardId::Asked(3))) > 0.95);
}

#[test]
fn the_time_of_the_server_does_not_pass_while_there_is_no_link() {
    let mut world = World::joined();
    world.publishes("ann", "TR_1");
    world.pass(Duration::from_millis(50));
    world.events.clear();
    world.offers = Offers::Ignored;
    world.publish(2);
    world.subscribe(3, "TR_1");
    world.until(SOON, |world| world.offers().len() == 1);
    world.pass(Duration::from_millis(50));
    world.door = Door::Closed;
    world.cut_link();
    world.pass(PUBLISHED_WITHIN * 3 / 2);
    world.door = Door::Open;
    world.offers = Offers::Answered;
    world.until(SOON * 2, |world| world.is_published(2) && told(world).contains(&"started 3 TR_1".to_owned()));
    assert_eq!(world.session.statistics().rejoins, 0);
    assert!(!told(&world).iter().any(|event| event.starts_with("failed")), "{:?}", told(&world));
}

#[test]
fn a_track_on_a_line_that_is_used_again_is_published_by_the_answer_and_not_by_the_offer() {
    let mut world = World::speaking();
    world.audio(AudioCommand::Close { id: 2 });
    world.until(SOON, |world| world.has_told(|event| *event == RoomEvent::Done(2)));
    world.pass(Duration::from_millis(100));
    let (sections, offers) = (world.place.as_ref().unwrap().peer.sections(), world.offers().len());
    world.offers = Offers::Ignored;
    world.publish(3);
    world.says(3, 660.0, Duration::from_secs(1));
    world.until(SOON, |world| world.offers().len() > offers);
    assert_eq!(world.place.as_ref().unwrap().peer.sections(), sections, "the line is used again");
    // Whatever else has the lines looked at says nothing of it.
    world.audio(AudioCommand::Mute { id: 3, muted: false });
    world.cut_link();
    world.until(SOON, |world| world.connections() == 1);
    world.pass(Duration::from_millis(500));
    assert!(!world.is_published(3), "the server did not answer");
    world.offers = Offers::Answered;
    world.cut_link();
    world.until(SOON, |world| told(world).contains(&"Drained 3".to_owned()));
    let share = share_at(660.0, &decoded(&world.sound()));
    assert!(share > 0.95, "all of it came: {share}");
    assert_eq!(world.session.statistics().audio.spoken, Duration::from_secs(1));
}

#[test]
fn who_hears_a_track_at_one_place_does_not_hear_it_at_the_next_one() {
    let mut world = World::joined();
    world.events.clear();
    world.offers = Offers::Ignored;
    world.publish(2);
    world.until(SOON, |world| world.offers().len() == 1);
    world.say(Response::TrackSubscribed(proto::TrackSubscribed { track_sid: "TR_own1".into() }));
    world.pass(Duration::from_millis(50));
    world.offers = Offers::Answered;
    world.place = None;
    world.cut_link();
    world.until(SOON * 2, |world| world.is_published(2));
    world.pass(Duration::from_millis(100));
    assert_eq!(told(&world), ["reconnecting", "connected PA_me2", "published 2 TR_own2"]);
    world.say(Response::TrackSubscribed(proto::TrackSubscribed { track_sid: "TR_own2".into() }));
    world.until(SOON, |world| told(world).contains(&"subscribed 2".to_owned()));
}

#[test]
fn a_wish_to_unmute_survives_a_cut() {
    let mut world = World::speaking();
    world.audio(AudioCommand::Mute { id: 2, muted: true });
    world.pass(Duration::from_millis(50));
    world.events.clear();
    world.muted_own = vec!["TR_own1".into()];
    world.cut_link();
    world.pass(Duration::from_millis(6));
    world.audio(AudioCommand::Mute { id: 2, muted: false });
    world.says(2, 660.0, Duration::from_secs(1));
    world.until(SOON, |world| told(world).contains(&"Drained 2".to_owned()));
    assert_eq!(told(&world), ["reconnecting", "Playing 2", "connected PA_me1", "Drained 2"], "no moderator did it");
    assert_eq!(world.mutes(), [("TR_own1".to_owned(), true), ("TR_own1".to_owned(), false)]);
    assert!(share_at(660.0, &decoded(&world.sound())) > 0.95);
}

#[test]
fn a_wish_to_unmute_that_is_lost_with_its_link_is_asked_for_again() {
    let mut world = World::speaking();
    world.audio(AudioCommand::Mute { id: 2, muted: true });
    world.pass(SOON * 2);
    world.events.clear();
    world.muted_own = vec!["TR_own1".into()];
    // Nobody knows yet that the link is dead.
    world.mute();
    world.audio(AudioCommand::Mute { id: 2, muted: false });
    world.until(SOON * 10, |world| world.connections() == 1);
    world.pass(SOON);
    assert_eq!(told(&world), ["reconnecting", "connected PA_me1"], "no moderator did it");
    assert_eq!(world.mutes(), [("TR_own1".to_owned(), true), ("TR_own1".to_owned(), false)]);
}

#[test]
fn a_mute_of_a_moderator_after_a_wish_that_the_server_got_stands() {
    for cut_after in [SOON * 2 + Duration::from_millis(100), Duration::from_millis(200), Duration::ZERO] {
        let mut world = World::speaking();
        world.audio(AudioCommand::Mute { id: 2, muted: true });
        world.pass(Duration::from_millis(50));
        world.audio(AudioCommand::Mute { id: 2, muted: false });
        world.pass(Duration::from_millis(50));
        world.pass(cut_after);
        if cut_after.is_zero() {
            // The server says something of the track before a ping proves that it got the wish.
            world.say(Response::Mute(proto::MuteTrackRequest { sid: "TR_own1".into(), muted: false }));
            world.pass(Duration::from_millis(50));
        }
        world.events.clear();
        world.muted_own = vec!["TR_own1".into()];
        world.cut_link();
        world.pass(SOON);
        assert_eq!(told(&world), ["reconnecting", "changed TR_own1 true", "connected PA_me1"], "{cut_after:?}");
        assert_eq!(world.mutes().len(), 2);
    }
}

#[test]
fn a_track_that_is_given_up_during_a_cut_is_given_up_at_the_server() {
    let mut world = World::hearing();
    world.cut_link();
    world.perform(Command::Cancel { id: 2 });
    world.pass(SOON);
    assert_eq!(world.subscriptions(), ["+TR_1", "-TR_1"]);
}

#[test]
fn tracks_that_are_over_are_not_named_after_a_cut_and_others_are() {
    let mut world = World::hearing();
    for id in 10..80 {
        let sid = format!("TR_{id}");
        world.publishes("ann", &sid);
        world.pass(Duration::from_millis(12));
        world.subscribe(id, &sid);
        world.pass(Duration::from_millis(12));
        world.unpublishes("ann", &sid);
        world.pass(Duration::from_millis(12));
    }
    let before = world.subscriptions().len();
    assert_eq!(before, 1 + 2 * 70);
    // Nobody knows yet that the link is dead, and the request is lost with it.
    world.mute();
    world.perform(Command::Cancel { id: 2 });
    world.until(SOON * 10, |world| world.connections() == 1);
    world.pass(SOON);
    assert_eq!(world.subscriptions()[before..], ["-TR_1"]);
}

#[test]
fn track_that_is_over_before_the_agent_is_told_of_it_is_not_named_after_a_cut() {
    let mut world = World::entering();
    world.subscribe(3, "TR_1");
    world.subscribe(4, "TR_2");
    world.until(SOON, |world| world.subscriptions().len() == 2);
    world.unpublishes("ann", "TR_2");
    world.pass(Duration::from_millis(50));
    world.has_path = true;
    world.until(SOON, |world| world.has_told(|event| *event == RoomEvent::Done(1)));
    world.pass(SOON);
    assert!(world.has_failed(4, "interrupted"), "{:?}", told(&world));
    assert_eq!(world.subscriptions(), ["+TR_1", "+TR_2", "-TR_2"]);
    world.cut_link();
    world.pass(SOON);
    assert_eq!(world.subscriptions().len(), 3);
}

#[test]
fn sound_of_the_track_before_it_is_not_heard_on_a_line_that_is_used_again() {
    let mut world = World::hearing();
    let section = world.place.as_ref().unwrap().peer.tracks.keys().next().unwrap().clone();
    let packets = tone(440.0, 4);
    world.sends("TR_1", &packets[..2], 0);
    world.has_path = false;
    world.sends("TR_1", &packets[2..3], 1_920);
    world.has_path = true;
    world.unpublishes("ann", "TR_1");
    world.publishes("ann", "TR_2");
    world.pass(Duration::from_millis(6));
    world.subscribe(3, "TR_2");
    // It waits for the one that was lost, and meanwhile the line gets another track.
    world.sends("TR_1", &packets[3..], 2_880);
    world.pass(Duration::from_secs(1));
    assert!(told(&world).contains(&"started 3 TR_2".to_owned()), "{:?}", told(&world));
    assert_eq!(world.place.as_ref().unwrap().peer.tracks[&section], "TR_2");
    assert!(world.heard(HeardId::Asked(3)).is_empty());
}

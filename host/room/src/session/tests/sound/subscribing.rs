//! Tracks that the agent hears.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;

use super::super::SOON;
use super::super::world::{Agent, Offers, World, person, track};
use super::{FRAME, share_at, told, tone};
use crate::session::sound::listener::SUBSCRIBED_WITHIN;
use wasm_worker_core::room::audio::options::{HEARD_MAX, RULES_MAX};
use wasm_worker_core::room::audio::{AudioCommand, AudioEvent, HeardId, Rule, Subscription};
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::id::IncomingId;

impl World {
    /// A world in which `ann` has a track and the agent hears it as operation 2.
    pub(super) fn hearing() -> Self {
        let mut world = Self::joined();
        world.publishes("ann", "TR_1");
        world.pass(Duration::from_millis(50));
        world.events.clear();
        world.subscribe(2, "TR_1");
        world
            .until(SOON, |world| world.has_told(|event| matches!(event, RoomEvent::Audio(AudioEvent::Started { .. }))));
        world
    }
}

#[test]
fn a_track_is_heard_until_it_ends() {
    let mut world = World::hearing();
    world.sends("TR_1", &tone(440.0, 100), 0);
    world.pass(Duration::from_secs(1));
    let share = share_at(440.0, &world.heard(HeardId::Asked(2)));
    assert!(share > 0.95, "{share}");
    let numbers = world.session.statistics().audio;
    assert_eq!((numbers.packets_received, numbers.packets_lost, numbers.heard_tracks), (100, 0, 1));
    assert_eq!(numbers.heard, Duration::from_secs(2));
    world.unpublishes("ann", "TR_1");
    world.pass(SOON);
    assert_eq!(told(&world), ["started 2 TR_1", "ended 2", "gone TR_1"]);
    assert_eq!(world.subscriptions(), ["+TR_1", "-TR_1"]);
    assert_eq!(world.session.statistics().audio.heard_tracks, 0);
    assert_eq!(world.session.statistics().audio.packets_received, 100, "they are counted for ever");
}

#[test]
fn lines_are_used_again_and_a_track_is_heard_twice_over_one() {
    let mut world = World::hearing();
    world.subscribe(3, "TR_1");
    world.pass(Duration::ZERO);
    assert_eq!(told(&world), ["started 2 TR_1", "started 3 TR_1"]);
    assert_eq!(world.subscriptions(), ["+TR_1"]);
    world.perform(Command::Cancel { id: 2 });
    world.sends("TR_1", &tone(440.0, 50), 0);
    assert!(world.heard(HeardId::Asked(2)).is_empty() && !world.heard(HeardId::Asked(3)).is_empty());
    world.perform(Command::Cancel { id: 3 });
    for round in 0..40_u32 {
        world.publishes("ann", &format!("TR_a{round}"));
        world.pass(Duration::from_millis(50));
        world.subscribe(100 + round, &format!("TR_a{round}"));
        let started = format!("started {} TR_a{round}", 100 + round);
        world.until(SOON, |world| told(world).contains(&started));
        world.perform(Command::Cancel { id: 100 + round });
        world.unpublishes("ann", &format!("TR_a{round}"));
        world.pass(Duration::from_millis(100));
    }
    assert!(world.place.as_ref().unwrap().peer.sections() <= 3, "{}", world.place.as_ref().unwrap().peer.sections());
}

#[test]
fn rules_follow_tracks_now_and_later() {
    let mut world = World::joined();
    world.people.push(person("PA_bot", "bot2"));
    world.changes("bot2", |bot| {
        bot.kind = proto::participant_info::Kind::Agent as i32;
        bot.tracks.push(track("TR_bot"));
    });
    world.publishes("ann", "TR_1");
    world.pass(Duration::from_millis(50));
    world.events.clear();
    world.follow(2, Rule { people: true, source: "microphone".into(), ..Rule::default() });
    world.follow(3, Rule { participant: "bot2".into(), ..Rule::default() });
    world.pass(SOON);
    assert_eq!(told(&world), ["started f1 of 2 TR_1", "started f2 of 3 TR_bot"]);
    world.events.clear();
    // None of these fits.
    world.changes("ann", |ann| {
        let video = proto::TrackType::Video as i32;
        ann.tracks.push(proto::TrackInfo { r#type: video, ..track("TR_video") });
        let source = proto::TrackSource::ScreenShareAudio as i32;
        ann.tracks.push(proto::TrackInfo { source, ..track("TR_screen") });
        let encryption = proto::encryption::Type::Gcm as i32;
        ann.tracks.push(proto::TrackInfo { encryption, ..track("TR_secret") });
    });
    world.pass(SOON);
    world.publishes("ann", "TR_2");
    world.pass(SOON);
    assert_eq!(told(&world), ["new TR_screen", "new TR_secret", "new TR_video", "new TR_2", "started f3 of 2 TR_2"]);
    world.events.clear();
    // Tracks go on after their rule, and are given up one by one.
    world.perform(Command::Cancel { id: 2 });
    world.audio(AudioCommand::CancelHeard { id: IncomingId(1) });
    world.publishes("ann", "TR_3");
    world.sends("TR_1", &tone(440.0, 50), 0);
    world.sends("TR_2", &tone(440.0, 50), 0);
    world.unpublishes("ann", "TR_2");
    world.pass(SOON);
    assert_eq!(told(&world), ["new TR_3", "ended f3", "gone TR_2"]);
    assert!(world.heard(HeardId::Followed(IncomingId(1))).is_empty());
    assert!(!world.heard(HeardId::Followed(IncomingId(3))).is_empty());
}

#[test]
fn rules_that_are_set_while_the_room_is_joined_follow_those_who_are_there() {
    let mut world = World::new();
    world.people[0].tracks.push(track("TR_1"));
    world.perform(Command::Connect { id: 1 });
    world.follow(2, Rule::default());
    world.pass(SOON);
    let story = ["joined ann", "new TR_1", "connected PA_me1", "done 1", "started f1 of 2 TR_1"];
    assert_eq!(told(&world), story);
}

#[test]
fn tracks_that_cannot_be_heard_fail_with_a_reason() {
    let mut world = World::joined();
    world.changes("ann", |ann| {
        let video = proto::TrackType::Video as i32;
        ann.tracks.push(proto::TrackInfo { r#type: video, ..track("TR_video") });
        let encryption = proto::encryption::Type::Gcm as i32;
        ann.tracks.push(proto::TrackInfo { encryption, ..track("TR_secret") });
        ann.tracks.extend(["TR_1", "TR_2", "TR_3"].map(track));
    });
    world.pass(Duration::from_millis(50));
    world.events.clear();
    let options = Subscription { rate: 44_100, ..Subscription::default() };
    world.audio(AudioCommand::Subscribe { id: 10, track_sid: "TR_1".into(), options });
    world.audio(AudioCommand::Follow { id: 11, rule: Rule::default(), options });
    for (id, sid) in (12..).zip(["TR_none", "TR_video", "TR_secret"]) {
        world.subscribe(id, sid);
    }
    world.pass(Duration::ZERO);
    let failed = ["10 invalid", "11 invalid", "12 invalid", "13 invalid", "14 not-supported"];
    assert_eq!(told(&world), failed.map(|failed| format!("failed {failed}")));
    world.events.clear();
    // What the server says of tracks that it was asked for.
    world.offers = Offers::Ignored;
    (2..).zip(["TR_1", "TR_2", "TR_3"]).for_each(|(id, sid)| world.subscribe(id, sid));
    world.pass(Duration::from_millis(50));
    let err = proto::SubscriptionError::SeCodecUnsupported as i32;
    world.say(Response::SubscriptionResponse(proto::SubscriptionResponse { track_sid: "TR_1".into(), err }));
    let (participant_sid, track_sid) = ("PA_ann".into(), "TR_2".into());
    let denied = proto::SubscriptionPermissionUpdate { participant_sid, track_sid, allowed: false };
    world.say(Response::SubscriptionPermissionUpdate(denied));
    let began = world.now;
    world.until(SUBSCRIBED_WITHIN * 2, |world| world.has_failed(4, "timeout"));
    assert!(world.now - began <= SUBSCRIBED_WITHIN);
    assert_eq!(told(&world), ["failed 2 not-supported", "failed 3 not-allowed", "failed 4 timeout"]);
    world.until(SOON, |world| world.subscriptions().iter().filter(|update| update.starts_with('-')).count() == 3);
}

#[test]
fn tracks_and_rules_are_bounded() {
    let [heard_max, rules_max] = [HEARD_MAX, RULES_MAX].map(|most| u32::try_from(most).unwrap());
    let mut world = World::joined();
    world.changes("ann", |ann| ann.tracks = (0..=HEARD_MAX).map(|number| track(&format!("TR_{number:02}"))).collect());
    world.pass(Duration::from_millis(50));
    world.events.clear();
    (0..=heard_max).for_each(|number| world.subscribe(100 + number, &format!("TR_{number:02}")));
    world.pass(SOON);
    assert!(world.has_failed(100 + heard_max, "limit"));
    assert_eq!(world.session.statistics().audio.heard_tracks, heard_max);
    world.follow(2, Rule::default());
    world.pass(SOON);
    assert_eq!(told(&world).iter().filter(|event| *event == "lost 1 audio-started").count(), HEARD_MAX + 1);
    (0..rules_max).for_each(|number| world.follow(200 + number, Rule { participant: "zoe".into(), ..Rule::default() }));
    world.pass(Duration::ZERO);
    assert!(world.has_failed(200 + rules_max - 1, "limit"));
}

#[test]
fn a_track_goes_on_over_a_resumption_and_over_a_new_join() {
    let mut world = World::hearing();
    let packets = tone(440.0, 100);
    world.sends("TR_1", &packets[..50], 7_000);
    world.cut_link();
    world.sends("TR_1", &packets[50..], 7_000 + 50 * 960);
    let states = world.asked(|request| match request {
        Request::SyncState(state) => state.subscription.clone(),
        _ => None,
    });
    let [subscription] = states.as_slice() else { panic!("{states:?}") };
    assert_eq!((subscription.track_sids.as_slice(), subscription.subscribe), (&["TR_1".to_owned()][..], true));
    assert_eq!(world.session.statistics().audio.packets_received, 100);
    world.events.clear();
    world.place = None;
    world.people.push(person("PA_ben", "ben"));
    world.cut_link();
    world.until(Duration::from_secs(10), |world| world.connections() == 1);
    world.pass(Duration::from_secs(1));
    // The clock of the new line begins elsewhere.
    world.sends("TR_1", &tone(440.0, 100), 3);
    world.pass(Duration::from_secs(1));
    let share = share_at(440.0, &world.heard(HeardId::Asked(2)));
    assert!(share > 0.95, "{share}");
    assert_eq!(told(&world), ["reconnecting", "joined ben", "connected PA_me2"], "the track never ended");
    // One that is gone at a new join ends.
    world.events.clear();
    world.place = None;
    world.people.retain(|person| person.identity != "ann");
    world.cut_link();
    world.until(Duration::from_secs(10), |world| world.connections() == 1);
    assert_eq!(told(&world), ["reconnecting", "ended 2", "gone TR_1", "left ann", "connected PA_me3"]);
}

#[test]
fn lost_packets_are_made_up_and_counted() {
    let mut world = World::hearing();
    world.loss = 10;
    world.sends("TR_1", &tone(440.0, 200), 0);
    world.loss = 0;
    world.sends("TR_1", &tone(440.0, 5), 200 * 960);
    world.pass(Duration::from_secs(1));
    let numbers = world.session.statistics().audio;
    assert!((10..=40).contains(&numbers.packets_lost), "{numbers:?}");
    assert_eq!(numbers.packets_received + numbers.packets_lost, 205);
    assert!(numbers.concealed >= FRAME * 10, "{numbers:?}");
    let sound = world.heard(HeardId::Asked(2));
    assert!(sound.len() >= 16_000 * 2 * 4, "the sound has its length: {}", sound.len());
    let concealed: Duration = world
        .events
        .iter()
        .map(|event| match event {
            RoomEvent::Audio(AudioEvent::Frame(frame)) => frame.concealed,
            _ => Duration::ZERO,
        })
        .sum();
    assert_eq!(concealed, numbers.concealed, "the frames say what was made up");
}

#[test]
fn an_agent_that_is_late_loses_the_oldest_sound_and_no_text() {
    let mut world = World::hearing();
    world.agent = Agent::IsBusy;
    let packets = tone(440.0, 100);
    for round in 0..6 {
        world.sends("TR_1", &packets, u64::from(round) * 96_000);
        world.place.as_mut().unwrap().send_data(round + 1, &round.to_string());
    }
    world.agent = Agent::TakesEvents;
    world.events.clear();
    world.pass(Duration::from_millis(100));
    let data = super::super::told(&world.events).into_iter().filter(|event| event.starts_with("data")).count();
    assert_eq!(data, 6);
    let kept = world.heard(HeardId::Asked(2)).len();
    assert!((200 << 10..=256 << 10).contains(&kept), "{kept} bytes");
    let Some(first) = world.events.iter().find_map(|event| match event {
        RoomEvent::Audio(AudioEvent::Frame(frame)) => Some(frame),
        _ => None,
    }) else {
        panic!("no sound")
    };
    let dropped = world.session.statistics().audio.dropped;
    assert_eq!(first.dropped, dropped);
    let whole = dropped + Duration::from_secs(1) * u32::try_from(kept).unwrap() / 32_000;
    assert!(whole > Duration::from_millis(11_900) && whole < Duration::from_millis(12_100), "{whole:?}");
}

#[test]
fn heard_tracks_end_before_the_room_does() {
    let mut world = World::hearing();
    world.follow(3, Rule::default());
    world.pass(SOON);
    world.dismiss(proto::DisconnectReason::RoomDeleted, Action::Disconnect);
    world.pass(Duration::from_secs(2));
    let story = [
        "started 2 TR_1",
        "started f1 of 3 TR_1",
        "ended f1",
        "ended 2",
        "failed 3 not-joined",
        "disconnected room-deleted",
    ];
    assert_eq!(told(&world), story);
}

#[test]
fn a_moderator_who_mutes_a_track_pauses_it() {
    let mut world = World::hearing();
    world.changes("ann", |ann| ann.tracks[0].muted = true);
    world.pass(Duration::from_secs(1));
    world.changes("ann", |ann| ann.tracks[0].muted = false);
    world.sends("TR_1", &tone(440.0, 100), 96_000);
    world.pass(Duration::from_secs(1));
    assert_eq!(told(&world), ["started 2 TR_1", "changed TR_1 true", "changed TR_1 false"]);
    assert!(share_at(440.0, &world.heard(HeardId::Asked(2))) > 0.95);
}

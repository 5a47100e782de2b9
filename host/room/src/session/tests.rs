//! The session against a server in virtual time: joining, losing, coming back, leaving.

mod world;

mod behind;
mod joins;
mod losses;
mod orders;
mod sound;

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;

use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::{Reason, RoomEvent};
use wasm_worker_core::room::settings::RoomLimits;
use world::{Door, World, person};

const SOON: Duration = Duration::from_secs(5);

/// The names of the events, with whom they are about.
fn told(events: &[RoomEvent]) -> Vec<String> {
    let name = |event: &RoomEvent| match event {
        RoomEvent::Connected { local, .. } => format!("connected {}", local.sid),
        RoomEvent::Reconnecting => "reconnecting".into(),
        RoomEvent::Disconnected { reason, .. } => format!("disconnected {}", reason.as_str()),
        RoomEvent::ParticipantJoined(who) => format!("joined {}", who.identity),
        RoomEvent::ParticipantLeft { participant, .. } => format!("left {}", participant.identity),
        RoomEvent::Done(id) => format!("done {id}"),
        RoomEvent::Failed(failure) => format!("failed {} {}", failure.id, failure.code),
        RoomEvent::Data { payload, .. } => format!("data {}", String::from_utf8_lossy(payload)),
        other => format!("{other:?}"),
    };
    events.iter().map(name).collect()
}

#[test]
fn what_is_over_the_rate_waits_and_arrives() {
    let limits = RoomLimits { send_bytes_per_second: 20_000, ..RoomLimits::default() };
    let mut world = World::within(limits).join();
    let began = world.now;
    world.send_text(2, &"x".repeat(100_000));
    let arrived = |world: &World| world.place.as_ref().unwrap().texts.iter().map(String::len).sum::<usize>();
    world.until(SOON * 2, |world| world.has_told(|event| *event == RoomEvent::Done(2)));
    assert_eq!(arrived(&world), 100_000);
    // All but a quarter of a second's bytes, and the last chunk of 15,000.
    let took = world.now - began;
    assert!((Duration::from_secs(4)..Duration::from_millis(5_200)).contains(&took), "{took:?}");
}

#[test]
fn texts_across_a_cut_of_the_link_arrive_once_and_in_order() {
    let mut world = World::joined();
    world.events.clear();
    for number in 0..20 {
        world.send_text(100 + number, &number.to_string());
        if number == 8 {
            world.cut_link();
        }
        world.pass(Duration::from_millis(3));
    }
    world.until(SOON, |world| world.connections() == 1 && world.place.as_ref().unwrap().texts.len() == 20);
    let numbers: Vec<String> = (0..20).map(|number: u32| number.to_string()).collect();
    assert_eq!(world.place.as_ref().unwrap().texts, numbers);
    world.until(SOON, |world| world.session.streams.is_delivered());
    world.pass(Duration::from_millis(10));
    let others: Vec<String> = told(&world.events).into_iter().filter(|event| !event.starts_with("done")).collect();
    assert_eq!(others, ["reconnecting", "connected PA_me1"]);
    assert_eq!((world.session.statistics().resumes, world.dialled.len()), (1, 2));
    assert!(world.dialled[1].reconnect && world.dialled[1].publisher_offer.is_none());
    let state = world.requests.iter().find_map(|request| match request {
        Request::SyncState(state) => Some(state),
        _ => None,
    });
    let state = state.expect("the server is told where the agent is");
    assert_eq!(state.offer.as_ref().map(|offer| offer.sdp.is_empty()), Some(false));
    assert_eq!(state.answer.as_ref().map(|answer| answer.sdp.is_empty()), Some(false));
}

#[test]
fn what_the_server_did_not_read_is_sent_again_after_a_resumption() {
    let mut world = World::joined();
    world.send_text(2, "read or not");
    world.until(SOON, |world| world.session.streams.is_delivered());
    assert_eq!(world.place.as_ref().unwrap().last_sequence, 3);
    // A server may lose what it acknowledged, as one that hands the room to another.
    world.place.as_mut().unwrap().last_sequence = 1;
    world.cut_link();
    world.pass(SOON);
    assert_eq!(world.place.as_ref().unwrap().texts, ["read or not", "read or not"]);
}

#[test]
fn whoever_left_during_a_cut_is_told_after_it() {
    let mut world = World::joined();
    world.events.clear();
    world.cut_link();
    world.people = vec![person("PA_ben", "ben")];
    world.until(SOON, |world| world.connections() == 1);
    assert_eq!(told(&world.events), ["reconnecting", "left ann", "joined ben", "connected PA_me1"]);
}

#[test]
fn a_text_beside_a_flood_of_lossy_data_waits_and_arrives_once() {
    let mut world = World::joined();
    world.has_path = false;
    for _ in 0..3 {
        let (topic, payload) = ("t".into(), vec![7; 42_000]);
        world.perform(Command::SendData { id: None, topic, payload, destinations: Vec::new() });
    }
    world.send_text(2, &"x".repeat(10_000));
    world.pass(Duration::from_secs(1));
    world.has_path = true;
    world.until(Duration::from_secs(60), |world| world.session.streams.is_delivered());
    assert_eq!(world.place.as_ref().unwrap().texts, ["x".repeat(10_000)]);
    assert!(world.has_told(|event| *event == RoomEvent::Done(2)));
}

#[test]
fn a_path_that_is_cut_is_found_again_by_the_same_peer() {
    let mut world = World::joined();
    world.events.clear();
    world.has_path = false;
    world.send_text(2, "across");
    world.until(Duration::from_secs(30), |world| world.has_told(|event| *event == RoomEvent::Reconnecting));
    world.has_path = true;
    world.until(Duration::from_secs(20), |world| world.connections() == 1);
    world.until(Duration::from_secs(70), |world| world.session.streams.is_delivered());
    assert_eq!(told(&world.events), ["reconnecting", "connected PA_me1", "done 2"]);
    assert_eq!(world.place.as_ref().unwrap().texts, ["across"]);
    assert!(world.tcp_drops > 0, "none of them leads to the server any more");
    let reason = proto::ReconnectReason::RrPublisherFailed as i32;
    assert!(world.dialled.iter().skip(1).all(|request| request.reconnect && request.reconnect_reason == reason));
}

#[test]
fn a_server_that_forgot_the_agent_is_joined_anew() {
    let mut world = World::joined();
    world.events.clear();
    world.place = None;
    world.people = vec![person("PA_ben", "ben")];
    world.cut_link();
    world.until(Duration::from_secs(10), |world| world.connections() == 1);
    assert_eq!(told(&world.events), ["reconnecting", "left ann", "joined ben", "connected PA_me2"]);
    world.send_text(2, "anew");
    world.until(SOON, |world| world.session.streams.is_delivered());
    let place = world.place.unwrap();
    assert_eq!((place.texts, place.last_sequence), (vec!["anew".to_owned()], 3));
    assert_eq!(world.session.signal.facts().rejoins, 1);
}

#[test]
fn a_server_that_restarts_is_joined_anew_and_one_that_stays_away_is_given_up() {
    let mut world = World::joined();
    world.events.clear();
    (world.door, world.place) = (Door::Closed, None);
    world.cut_link();
    world.pass(Duration::from_secs(10));
    world.door = Door::Open;
    world.until(Duration::from_secs(20), |world| world.connections() == 1);
    assert_eq!(told(&world.events), ["reconnecting", "connected PA_me2"]);
    world.events.clear();
    (world.door, world.place) = (Door::Closed, None);
    world.pass(Duration::from_secs(11));
    world.send_text(2, "never");
    world.cut_link();
    world.until(Duration::from_secs(120), |world| world.session.signal.is_out());
    assert_eq!(told(&world.events), ["reconnecting", "failed 2 not-joined", "disconnected signal-close"]);
}

#[test]
fn the_reason_of_an_end_is_told_although_the_peer_closes_first() {
    use proto::DisconnectReason as Why;
    for (why, reason) in [
        (Why::RoomDeleted, Reason::RoomDeleted),
        (Why::ParticipantRemoved, Reason::ParticipantRemoved),
        (Why::DuplicateIdentity, Reason::DuplicateIdentity),
        (Why::ServerShutdown, Reason::ServerShutdown),
    ] {
        let mut world = World::joined();
        world.events.clear();
        world.dismiss(why, Action::Disconnect);
        world.until(SOON, |world| world.session.signal.is_out());
        assert_eq!(told(&world.events), [format!("disconnected {}", reason.as_str())]);
        assert!(world.session.wake_at().is_none_or(|at| at > world.now + Duration::from_secs(60)), "nothing goes on");
    }
}

#[test]
fn the_server_may_order_a_resumption_or_a_new_join() {
    let mut world = World::joined();
    world.events.clear();
    let reason = proto::DisconnectReason::ConnectionTimeout as i32;
    let resume = proto::LeaveRequest { reason, action: Action::Resume as i32, ..Default::default() };
    world.say(Response::Leave(resume));
    world.until(SOON, |world| world.connections() == 1);
    world.dismiss(proto::DisconnectReason::Migration, Action::Reconnect);
    world.until(SOON, |world| world.connections() == 2);
    assert_eq!(told(&world.events), ["reconnecting", "connected PA_me1", "reconnecting", "connected PA_me2"]);
    assert!(world.dialled[1].reconnect && !world.dialled[2].reconnect);
    assert_eq!(world.tcp_drops, 0, "the path may go over one of them");
}

#[test]
fn a_silent_server_is_left_for_a_resumption() {
    let mut world = World::joined();
    world.events.clear();
    // Its messages do not arrive any more, and the link stays open.
    world.door = Door::Silent;
    world.mute();
    world.until(Duration::from_secs(16), |world| world.has_told(|event| *event == RoomEvent::Reconnecting));
    world.door = Door::Open;
    world.until(Duration::from_secs(20), |world| world.connections() == 1);
    assert_eq!(told(&world.events), ["reconnecting", "connected PA_me1"]);
}

#[test]
fn what_was_sent_is_delivered_before_the_room_is_left() {
    let mut world = World::joined();
    world.events.clear();
    world.send_text(2, "last words");
    world.perform(Command::Disconnect);
    world.send_text(3, "after the end");
    world.perform(Command::Connect { id: 4 });
    let mut texts = Vec::new();
    world.until(SOON, |world| {
        texts.extend(world.place.iter().filter(|place| place.sid == "PA_me1").map(|place| place.texts.clone()));
        world.has_told(|event| *event == RoomEvent::Done(4))
    });
    assert_eq!(texts.last().unwrap(), &["last words"]);
    let expected =
        ["done 2", "disconnected client-initiated", "failed 3 not-joined", "joined ann", "connected PA_me2", "done 4"];
    assert_eq!(told(&world.events), expected);
    assert!(world.requests.iter().any(|request| matches!(request, Request::Leave(leave)
        if leave.reason == proto::DisconnectReason::ClientInitiated as i32)));
}

#[test]
fn a_room_that_cannot_be_reached_is_left_after_the_time_for_it() {
    let mut world = World::joined();
    world.has_path = false;
    world.send_text(2, "never");
    world.perform(Command::Disconnect);
    world.until(Duration::from_secs(6), |world| world.session.signal.is_out());
    assert_eq!(told(&world.events)[3..], ["failed 2 not-joined", "disconnected client-initiated"]);
}

#[test]
fn what_others_send_is_told_after_the_agent_is_in_the_room() {
    let mut world = World::joined();
    world.events.clear();
    let place = world.place.as_mut().unwrap();
    place.send_data(1, "one");
    place.send_data(2, "two");
    place.send_data(2, "again");
    let mut gone = person("PA_ann", "ann");
    gone.state = proto::participant_info::State::Disconnected as i32;
    world.pass(Duration::from_millis(50));
    world.say(Response::Update(proto::ParticipantUpdate { participants: vec![gone] }));
    world.pass(Duration::from_secs(1));
    assert_eq!(told(&world.events), ["data one", "data two", "left ann"]);
    assert_eq!(world.session.statistics().packets_ignored, 1);
}

#[test]
fn attributes_are_changed_when_the_server_says_so_and_again_after_a_cut() {
    let mut world = World::joined();
    world.events.clear();
    world.perform(Command::SetAttributes { id: 2, attributes: vec![("a".into(), "1".into())] });
    world.cut_link();
    world.until(Duration::from_secs(10), |world| world.has_told(|event| *event == RoomEvent::Done(2)));
    let updates = world.requests.iter().filter(|request| matches!(request, Request::UpdateMetadata(_))).count();
    assert!(updates >= 2, "the name at the join, and the attribute at least once: {updates}");
}

#[test]
fn garbage_on_the_link_is_a_lost_link() {
    let mut world = World::joined();
    world.events.clear();
    world.say_garbage();
    world.until(SOON, |world| world.connections() == 1);
    assert_eq!(told(&world.events), ["reconnecting", "connected PA_me1"]);
}

#[test]
fn a_move_to_another_room_looks_like_a_join() {
    let mut world = World::joined();
    world.events.clear();
    world.say(Response::RoomMoved(proto::RoomMovedResponse {
        room: Some(proto::Room { sid: "RM_2".into(), name: "other".into(), ..Default::default() }),
        token: "new".into(),
        participant: Some(person("PA_moved", "me")),
        other_participants: vec![person("PA_zoe", "zoe")],
    }));
    world.pass(Duration::from_secs(1));
    assert_eq!(told(&world.events), ["left ann", "joined zoe", "connected PA_moved"]);
}

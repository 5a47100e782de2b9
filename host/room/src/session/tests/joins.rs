//! The first join: what goes with it, what waits for it, and what it fails by.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;

use super::world::{Door, World};
use super::{SOON, told};
use wasm_worker_core::room::command::{AgentState, Command};
use wasm_worker_core::room::event::RoomEvent;

fn failure_message(world: &World) -> &str {
    let Some(RoomEvent::Failed(failure)) = world.events.last() else { panic!("{:?}", world.events) };
    &failure.message
}

#[test]
fn joins_that_the_server_refuses_fail_and_may_be_tried_again() {
    for (status, code) in [(401, "not-allowed"), (404, "not-supported"), (400, "refused")] {
        let mut world = World::new();
        world.door = Door::Refuses(status);
        world.perform(Command::Connect { id: 1 });
        world.until(SOON, |world| !world.events.is_empty());
        assert_eq!(told(&world.events), [format!("failed 1 {code}")]);
        assert!(failure_message(&world).contains(&status.to_string()) || status == 401);
        assert_eq!(world.dialled.len(), 1, "no second attempt");
        world.door = Door::Open;
        world.perform(Command::Connect { id: 2 });
        world.until(SOON, |world| world.has_told(|event| *event == RoomEvent::Done(2)));
    }
}

#[test]
fn joins_that_may_succeed_later_are_tried_within_the_time_for_them() {
    for door in [Door::Closed, Door::Refuses(503), Door::Silent] {
        let mut world = World::new();
        world.door = door;
        world.perform(Command::Connect { id: 1 });
        let began = world.now;
        world.until(Duration::from_secs(16), |world| !world.events.is_empty());
        assert_eq!(told(&world.events), ["failed 1 timeout"], "{door:?}");
        assert_eq!(world.now - began, Duration::from_secs(15));
        assert!(world.dialled.len() > 2 && world.dialled.len() <= 10, "{} attempts", world.dialled.len());
    }
}

#[test]
fn encrypted_rooms_are_refused() {
    let mut world = World::new();
    let encryption = proto::encryption::Type::Gcm as i32;
    let track = proto::TrackInfo { sid: "TR_1".into(), encryption, ..Default::default() };
    world.people[0].tracks.push(track);
    world.perform(Command::Connect { id: 1 });
    world.until(SOON, |world| !world.events.is_empty());
    assert_eq!(told(&world.events), ["failed 1 not-supported"]);
    assert!(failure_message(&world).contains("encrypted from end to end"));
}

#[test]
fn a_join_that_is_cancelled_is_given_up_and_tells_nothing() {
    let mut world = World::new();
    world.perform(Command::Connect { id: 1 });
    world.perform(Command::Cancel { id: 1 });
    world.pass(SOON);
    assert!(world.events.is_empty(), "{:?}", world.events);
    assert!(world.session.peer.is_none());
}

#[test]
fn a_room_is_joined_with_what_was_set_before() {
    let mut world = World::new();
    world.perform(Command::SetAttributes { id: 2, attributes: vec![("a".into(), "1".into())] });
    world.perform(Command::SetAgentState { state: AgentState::Listening });
    world.perform(Command::Connect { id: 3 });
    world.until(SOON, |world| world.has_told(|event| *event == RoomEvent::Done(3)));
    assert_eq!(told(&world.events), ["done 2", "joined ann", "connected PA_me1", "done 3"]);
    let attributes = &world.dialled[0].participant_attributes;
    assert_eq!((attributes["a"].as_str(), attributes["lk.agent.state"].as_str()), ("1", "listening"));
    // A name cannot go with the join.
    world.pass(Duration::from_secs(1));
    let [Request::UpdateMetadata(update)] = world.requests.as_slice() else { panic!("{:?}", world.requests) };
    assert_eq!(update.name, "bot");
    assert!(world.session.statistics().joined_in.unwrap() < Duration::from_millis(200));
}

#[test]
fn sends_wait_for_a_join_that_is_under_way_and_fail_without_one() {
    let mut world = World::new();
    world.send_text(1, "too early");
    world.perform(Command::Connect { id: 2 });
    world.send_text(3, "in time");
    world.until(SOON, |world| world.has_told(|event| *event == RoomEvent::Done(3)));
    let expected = ["failed 1 not-joined", "joined ann", "connected PA_me1", "done 2", "done 3"];
    assert_eq!(told(&world.events), expected);
    assert_eq!(world.place.unwrap().texts, ["in time"]);
}

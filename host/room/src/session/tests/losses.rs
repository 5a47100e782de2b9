//! What is kept, counted and told across a loss.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;

use super::world::{World, person};
use super::{SOON, told};
use wasm_worker_core::room::command::{AgentState, Command};
use wasm_worker_core::room::event::RoomEvent;

#[test]
fn a_new_join_does_not_carry_what_the_server_refused() {
    let mut world = World::joined();
    world.pass(Duration::from_secs(1));
    let attribute = |name: &str| vec![(name.to_owned(), "1".to_owned())];
    world.perform(Command::SetAttributes { id: 2, attributes: attribute("granted") });
    world.until(SOON, |world| world.has_told(|event| *event == RoomEvent::Done(2)));
    world.answers = proto::request_response::Reason::NotAllowed;
    world.perform(Command::SetAttributes { id: 3, attributes: attribute("refused") });
    world.perform(Command::SetAgentState { state: AgentState::Thinking });
    world.until(SOON, |world| told(&world.events).contains(&"failed 3 not-allowed".to_owned()));
    world.pass(Duration::from_secs(1));
    world.place = None;
    world.cut_link();
    world.until(Duration::from_secs(10), |world| world.connections() == 2);
    let attributes = &world.dialled.last().unwrap().participant_attributes;
    let expected = [("granted", "1"), ("lk.agent.state", "initializing")];
    assert_eq!(*attributes, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn somebody_who_begins_to_encrypt_keeps_no_agent_from_coming_back() {
    let mut world = World::joined();
    let encryption = proto::encryption::Type::Gcm as i32;
    world.people[0].tracks.push(proto::TrackInfo { sid: "TR_1".into(), encryption, ..Default::default() });
    world.place = None;
    world.cut_link();
    world.until(Duration::from_secs(10), |world| world.connections() == 2);
    assert_eq!(world.session.statistics().rejoins, 1);
}

#[test]
fn packets_that_a_server_lost_for_good_are_counted() {
    let mut world = World::joined();
    world.send_text(2, "three packets");
    world.until(SOON, |world| world.session.streams.is_delivered());
    // They are kept for ten seconds.
    world.pass(Duration::from_secs(11));
    world.place.as_mut().unwrap().last_sequence = 0;
    world.cut_link();
    world.until(SOON, |world| world.connections() == 2);
    assert_eq!(world.session.statistics().packets_dropped, 3);
}

#[test]
fn a_move_during_a_resumption_is_told_and_the_room_is_the_new_one() {
    let mut world = World::joined();
    world.events.clear();
    world.has_path = false;
    let is_back = |world: &mut World| world.requests.iter().any(|request| matches!(request, Request::SyncState(_)));
    world.until(Duration::from_secs(30), is_back);
    world.people = vec![person("PA_zoe", "zoe")];
    world.say(Response::RoomMoved(proto::RoomMovedResponse {
        room: Some(proto::Room { sid: "RM_2".into(), name: "other".into(), ..Default::default() }),
        token: "new".into(),
        participant: Some(person("PA_me1", "me")),
        other_participants: world.people.clone(),
    }));
    world.pass(Duration::from_millis(500));
    assert_eq!(told(&world.events), ["reconnecting", "left ann", "joined zoe"]);
    world.has_path = true;
    world.until(Duration::from_secs(30), |world| world.connections() == 1);
    let Some(RoomEvent::Connected { room, .. }) = world.events.last() else { panic!("{:?}", world.events) };
    assert_eq!(room.name, "other");
}

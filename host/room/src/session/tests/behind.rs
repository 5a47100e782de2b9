//! An agent that does not take its events for a while.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message as Response;

use super::told;
use super::world::{Agent, World, person};
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_crowd_is_introduced_in_full_once_the_agent_takes_its_events() {
    let mut world = World::new();
    world.agent = Agent::IsBusy;
    world.people = (0..300).map(|number| person(&format!("PA_{number}"), &format!("p{number}"))).collect();
    for person in &mut world.people {
        let track = |number| proto::TrackInfo { sid: format!("TR_{number}"), ..Default::default() };
        person.tracks = (0..64).map(track).collect();
    }
    world.perform(Command::Connect { id: 1 });
    world.pass(SECOND * 5);
    assert!(world.events.is_empty() && world.session.held_bytes() > 300 * 65 * size_of::<RoomEvent>());
    world.agent = Agent::TakesEvents;
    world.pass(SECOND);
    let tracks = world.events.iter().filter(|event| matches!(event, RoomEvent::TrackPublished(_))).count();
    let told = told(&world.events);
    let people = told.iter().filter(|event| event.starts_with("joined p")).count();
    assert_eq!((people, tracks, told.len()), (300, 300 * 64, 300 * 65 + 2));
    assert_eq!(told[told.len() - 2..], ["connected PA_me1", "done 1"]);
    assert_eq!(world.session.held_bytes(), 0);
}

#[test]
fn the_end_of_a_room_comes_after_what_was_sent_in_it_and_keeps_its_reason() {
    let mut world = World::joined();
    world.events.clear();
    world.agent = Agent::IsBusy;
    let send = |world: &mut World, numbers: std::ops::RangeInclusive<u32>| {
        numbers.for_each(|number| world.place.as_mut().unwrap().send_data(number, &number.to_string()));
        world.pass(SECOND);
    };
    send(&mut world, 1..=300);
    let mut gone = person("PA_ann", "ann");
    gone.state = proto::participant_info::State::Disconnected as i32;
    world.say(Response::Update(proto::ParticipantUpdate { participants: vec![gone] }));
    world.pass(SECOND);
    send(&mut world, 301..=400);
    world.dismiss(proto::DisconnectReason::RoomDeleted, Action::Disconnect);
    world.pass(SECOND);
    assert!(world.events.is_empty() && world.session.held_bytes() < 5_000, "{}", world.session.held_bytes());
    // Also while the next join is under way.
    world.perform(Command::Connect { id: 9 });
    world.agent = Agent::TakesEvents;
    world.pass(Duration::ZERO);
    let mut expected: Vec<String> = (1..=400).map(|number| format!("data {number}")).collect();
    expected.insert(300, "left ann".into());
    expected.push("disconnected room-deleted".into());
    assert_eq!(told(&world.events), expected);
    world.until(SECOND * 5, |world| world.has_told(|event| *event == RoomEvent::Done(9)));
}

#[test]
fn what_comes_before_the_agent_is_in_the_room_is_told_after_it() {
    let mut world = World::new();
    world.perform(Command::Connect { id: 1 });
    // One data channel may be open before the other.
    let user = proto::UserPacket { payload: b"early".into(), ..Default::default() };
    let value = Some(proto::data_packet::Value::User(user));
    let packet = proto::DataPacket { participant_identity: "ann".into(), value, ..Default::default() };
    world.session.streams.received(packet, true, world.now);
    world.until(SECOND * 5, |world| world.has_told(|event| matches!(event, RoomEvent::Data { .. })));
    assert_eq!(told(&world.events), ["joined ann", "connected PA_me1", "done 1", "data early"]);
}

#[test]
fn commands_wait_until_the_room_is_left() {
    let mut world = World::joined();
    world.send_text(2, "last words");
    world.perform(Command::Disconnect);
    assert!(world.session.is_leaving());
    world.until(SECOND * 5, |world| world.session.signal.is_out());
    assert!(!world.session.is_leaving());
    let ends = ["done 2", "disconnected client-initiated"];
    assert_eq!(told(&world.events)[told(&world.events).len() - 2..], ends);
}

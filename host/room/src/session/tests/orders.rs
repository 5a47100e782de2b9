//! Whatever happens in whatever order, the agent is told a story that makes sense, and every operation ends once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message as Response;
use proptest::prelude::*;

use super::world::{Door, World, person};
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;

#[derive(Clone, Debug)]
enum Step {
    Connect,
    Disconnect,
    Text,
    Attributes,
    CancelLast,
    CutLink,
    Path(bool),
    Door(Door),
    Forget,
    Dismiss(Action),
    Garbage,
    Comes(u8),
    Goes(u8),
    Data,
    Pass(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let door = prop_oneof![
        3 => Just(Door::Open),
        1 => Just(Door::Closed),
        1 => prop_oneof![Just(401), Just(404), Just(503)].prop_map(Door::Refuses),
        1 => Just(Door::Silent),
    ];
    let action = prop_oneof![Just(Action::Disconnect), Just(Action::Resume), Just(Action::Reconnect)];
    let step = prop_oneof![
        2 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        4 => Just(Step::Text),
        2 => Just(Step::Attributes),
        1 => Just(Step::CancelLast),
        2 => Just(Step::CutLink),
        2 => any::<bool>().prop_map(Step::Path),
        2 => door.prop_map(Step::Door),
        1 => Just(Step::Forget),
        1 => action.prop_map(Step::Dismiss),
        1 => Just(Step::Garbage),
        1 => (0_u8..4).prop_map(Step::Comes),
        1 => (0_u8..4).prop_map(Step::Goes),
        2 => Just(Step::Data),
        6 => (1_u16..3_000).prop_map(Step::Pass),
        1 => (3_000_u16..30_000).prop_map(Step::Pass),
    ];
    let joins = prop_oneof![4 => Just(vec![Step::Connect, Step::Pass(500)]), 1 => Just(Vec::new())];
    (joins, prop::collection::vec(step, 1..40)).prop_map(|(joins, steps)| [joins, steps].concat())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Out,
    In,
    Reconnecting,
}

/// What the agent knows from the events.
#[derive(Default)]
struct Agent {
    place: Place,
    /// Identities, by sid.
    people: BTreeMap<String, String>,
    open: BTreeSet<u32>,
    read: usize,
}

impl Agent {
    fn read(&mut self, events: &[RoomEvent]) {
        for event in &events[self.read..] {
            self.take(event);
        }
        self.read = events.len();
    }

    fn take(&mut self, event: &RoomEvent) {
        match event {
            RoomEvent::Connected { .. } => self.place = Place::In,
            RoomEvent::Reconnecting => {
                assert_eq!(self.place, Place::In, "reconnecting without a room, or twice");
                self.place = Place::Reconnecting;
            }
            RoomEvent::Disconnected { .. } => {
                assert_ne!(self.place, Place::Out, "disconnected without a room");
                assert!(self.open.is_empty(), "operations outlive their room: {:?}", self.open);
                *self = Self { read: self.read, ..Self::default() };
            }
            RoomEvent::ParticipantJoined(who) => {
                let before = self.people.insert(who.sid.clone(), who.identity.clone());
                assert_eq!(before, None, "joined twice");
                let again = self.people.values().filter(|identity| **identity == who.identity).count();
                assert_eq!(again, 1, "two of one identity");
            }
            RoomEvent::ParticipantLeft { participant, .. } => {
                assert!(self.people.remove(&participant.sid).is_some(), "left without having joined");
            }
            RoomEvent::Done(id) => assert!(self.open.remove(id), "{id} ends twice"),
            RoomEvent::Failed(failure) => assert!(self.open.remove(&failure.id), "{} ends twice", failure.id),
            RoomEvent::Data { .. } | RoomEvent::Text { .. } => {
                assert_ne!(self.place, Place::Out, "a text without a room");
            }
            _ => {}
        }
    }
}

/// A world and its agent.
struct Story {
    world: World,
    agent: Agent,
    last_id: u32,
    last_sequence: u32,
    stays: u32,
}

impl Story {
    fn new_id(&mut self) -> u32 {
        self.last_id += 1;
        self.agent.open.insert(self.last_id);
        self.last_id
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Connect => {
                let id = self.new_id();
                self.world.perform(Command::Connect { id });
            }
            Step::Disconnect => {
                self.world.perform(Command::Disconnect);
                // Until the room is left, commands wait. The agent of this test waits too.
                self.world.until(Duration::from_secs(6), |world| !world.session.is_leaving());
            }
            Step::Text => {
                let id = self.new_id();
                self.world.send_text(id, "text");
            }
            Step::Attributes => {
                let id = self.new_id();
                let attributes = vec![("a".into(), id.to_string())];
                self.world.perform(Command::SetAttributes { id, attributes });
            }
            Step::CancelLast => {
                self.world.holds_within(Duration::ZERO, |_| false);
                self.agent.read(&self.world.events);
                if let Some(id) = self.agent.open.pop_last() {
                    self.world.perform(Command::Cancel { id });
                }
            }
            Step::Comes(_) | Step::Goes(_) | Step::Data => self.take_others(step),
            Step::CutLink => self.world.cut_link(),
            Step::Path(has_path) => self.world.has_path = *has_path,
            Step::Door(door) => self.world.door = *door,
            Step::Forget => self.world.place = None,
            Step::Dismiss(action) => self.world.dismiss(proto::DisconnectReason::Migration, *action),
            Step::Garbage => self.world.say_garbage(),
            Step::Pass(ms) => self.world.pass(Duration::from_millis((*ms).into())),
        }
        self.agent.read(&self.world.events);
    }

    fn take_others(&mut self, step: &Step) {
        let world = &mut self.world;
        match step {
            Step::Comes(who) => {
                self.stays += 1;
                let info = person(&format!("PA_{who}_{}", self.stays), &format!("p{who}"));
                world.people.retain(|other| other.identity != info.identity);
                world.people.push(info.clone());
                world.say(Response::Update(proto::ParticipantUpdate { participants: vec![info] }));
            }
            Step::Goes(who) => {
                let place = world.people.iter().position(|info| info.identity == format!("p{who}"));
                if let Some(mut info) = place.map(|place| world.people.remove(place)) {
                    info.state = proto::participant_info::State::Disconnected as i32;
                    world.say(Response::Update(proto::ParticipantUpdate { participants: vec![info] }));
                }
            }
            _ => {
                self.last_sequence += 1;
                if let Some(place) = &mut world.place
                    && place.peer.has_channels()
                {
                    place.send_data(self.last_sequence, "data");
                }
            }
        }
    }
}

fn run(steps: &[Step]) {
    let agent = Agent::default();
    let mut story = Story { world: World::new(), agent, last_id: 0, last_sequence: 0, stays: 0 };
    steps.iter().for_each(|step| story.take(step));
    // All is well from now on: whoever is in the room gets back, and every operation ends.
    (story.world.door, story.world.has_path) = (Door::Open, true);
    story.take(&Step::Pass(u16::MAX));
    story.take(&Step::Pass(u16::MAX));
    let Story { world, agent, .. } = story;
    assert!(agent.open.is_empty(), "never ended: {:?}", agent.open);
    let place = if world.session.signal.is_out() { Place::Out } else { Place::In };
    assert_eq!(agent.place, place, "never came back");
    assert!(world.session.streams.is_delivered());
    if place == Place::In {
        let people: BTreeSet<&str> = world.people.iter().map(|info| info.identity.as_str()).collect();
        assert_eq!(agent.people.values().map(String::as_str).collect::<BTreeSet<_>>(), people);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_agent_is_told_a_story_that_makes_sense(steps in steps()) {
        run(&steps);
    }
}

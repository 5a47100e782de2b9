//! Whatever happens in whatever order, the agent is told a story that makes sense, and every operation ends once.

mod agent;

use std::collections::BTreeSet;
use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message as Response;
use proptest::prelude::*;

use super::world::{Door, World, person, track};
use agent::{Agent, Place};
use wasm_worker_core::room::audio::{AudioCommand, HeardId, Publication, Rule, Subscription};
use wasm_worker_core::room::command::Command;

/// A packet of Opus: 20 ms of silence.
const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];
/// Most tracks of others, and most tracks and rules of the agent, so that no limit is met.
const TRACKS_MAX: usize = 4;
const LASTING_MAX: usize = 3;

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
    Publish,
    Say,
    Close,
    Follow,
    Subscribe,
    CancelLasting,
    TrackComes(u8),
    TrackGoes(u8),
    Sound,
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
        2 => prop_oneof![Just(Step::Publish), Just(Step::Say), Just(Step::Close), Just(Step::CancelLasting)],
        2 => prop_oneof![Just(Step::Follow), Just(Step::Subscribe), Just(Step::Sound)],
        2 => (0_u8..4).prop_flat_map(|who| prop_oneof![2 => Just(Step::TrackComes(who)), 1 => Just(Step::TrackGoes(who))]),
        6 => (1_u16..3_000).prop_map(Step::Pass),
        1 => (3_000_u16..30_000).prop_map(Step::Pass),
    ];
    let joins = prop_oneof![4 => Just(vec![Step::Connect, Step::Pass(500)]), 1 => Just(Vec::new())];
    (joins, prop::collection::vec(step, 1..40)).prop_map(|(joins, steps)| [joins, steps].concat())
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
            Step::Comes(_) | Step::Goes(_) | Step::Data | Step::TrackComes(_) | Step::TrackGoes(_) | Step::Sound => {
                self.take_others(step)
            }
            Step::Publish | Step::Say | Step::Close | Step::Follow | Step::Subscribe | Step::CancelLasting => {
                self.take_sound(step);
            }
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

    fn take_sound(&mut self, step: &Step) {
        self.world.holds_within(Duration::ZERO, |_| false);
        self.agent.read(&self.world.events);
        let agent = &mut self.agent;
        let (last, options) = (agent.tracks.last().copied(), Subscription::default());
        let lasting = agent.tracks.len().max(agent.rules.len()).max(agent.asked.len());
        self.last_id += 1;
        let id = self.last_id;
        let command = match (step, last) {
            (Step::Publish, _) if lasting < LASTING_MAX => {
                agent.tracks.insert(id);
                AudioCommand::Publish { id, publication: Publication::default() }
            }
            (Step::Follow, _) if lasting < LASTING_MAX => {
                agent.rules.insert(id);
                AudioCommand::Follow { id, rule: Rule::default(), options }
            }
            (Step::Subscribe, _) if lasting < LASTING_MAX => {
                agent.asked.insert(id);
                let sids = self.world.people.iter().flat_map(|person| &person.tracks);
                let track_sid = sids.last().map_or("TR_none".into(), |track| track.sid.clone());
                AudioCommand::Subscribe { id, track_sid, options }
            }
            (Step::Say, Some(id)) => AudioCommand::Write { id, pcm: vec![7; 48_000] },
            (Step::Close, Some(id)) => AudioCommand::Close { id },
            (Step::CancelLasting, _) => {
                let all = [&mut agent.tracks, &mut agent.rules, &mut agent.asked];
                if let Some(id) = all.into_iter().find_map(BTreeSet::pop_last) {
                    agent.heard.remove(&HeardId::Asked(id));
                    self.world.perform(Command::Cancel { id });
                }
                return;
            }
            _ => return,
        };
        self.world.perform(Command::Audio(command));
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
            Step::TrackComes(who) | Step::TrackGoes(who) => {
                let identity = format!("p{who}");
                self.stays += 1;
                let sid = format!("TR_{}", self.stays);
                let count: usize = world.people.iter().map(|person| person.tracks.len()).sum();
                let comes = matches!(step, Step::TrackComes(_));
                if world.people.iter().any(|person| person.identity == identity) && (!comes || count < TRACKS_MAX) {
                    world.changes(&identity, |person| {
                        if comes { person.tracks.push(track(&sid)) } else { drop(person.tracks.pop()) }
                    });
                }
            }
            Step::Sound => {
                for sid in world.people.iter().flat_map(|person| &person.tracks).map(|track| &track.sid) {
                    if let Some(place) = &mut world.place {
                        place.peer.send_sound(sid, self.last_sequence.into(), &SILENCE, world.now);
                    }
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
        let tracks: BTreeSet<&str> =
            world.people.iter().flat_map(|person| &person.tracks).map(|track| track.sid.as_str()).collect();
        for rule in &agent.rules {
            let followed = agent.heard.values().filter(|(of, _)| *of == Some(*rule)).map(|(_, sid)| sid.as_str());
            let followed: BTreeSet<&str> = followed.collect();
            assert!(tracks.is_subset(&followed), "{rule} follows {followed:?} of {tracks:?}");
        }
        assert!(agent.heard.values().all(|(_, sid)| tracks.contains(sid.as_str())), "a track is heard that is gone");
        let peer = &world.place.as_ref().unwrap().peer;
        assert_eq!(peer.names.len(), agent.tracks.len(), "tracks of the agent that the server has");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_agent_is_told_a_story_that_makes_sense(steps in steps()) {
        run(&steps);
    }
}

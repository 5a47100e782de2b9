//! Two participants and a server between them, over a link that delays, loses and repeats, with resumes and new sessions at any
//! place.
//!
//! Each text that is told as `Done` has arrived once, whole and in order, unless the receiver itself was away. None arrives twice.

mod end;

use proptest::prelude::*;

use super::super::limits::AFTER_LEAVING;
use super::*;
use end::{End, Link};

/// Packets that the server sends again to one who resumes.
const REPLAYED_MAX: usize = 50;

#[derive(Clone, Debug)]
enum Step {
    /// A whole text of so many characters.
    Text(bool, usize),
    Open(bool),
    /// A part of one of the open texts.
    Write(bool, usize, usize),
    Close(bool, usize),
    Cancel(bool, usize),
    Lossy(bool),
    /// The channel takes so many packets.
    Take(bool, usize),
    /// The server reads so many packets of a participant.
    Read(bool, usize),
    /// So many packets reach a participant.
    Arrive(bool, usize),
    /// The participant's agent takes so many events.
    Events(bool, usize),
    /// The server acknowledges what comes, and does not read it, until a resume.
    Stall(bool),
    /// The participant resumes. The server tells what it has read, and sends again what it sent.
    Resume(bool),
    /// The participant joins anew.
    Rejoin(bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (who, count) = (any::<bool>, || 1_usize..20);
    prop_oneof![
        6 => (who(), prop_oneof![0_usize..40, 7_000_usize..20_000]).prop_map(|(who, length)| Step::Text(who, length)),
        2 => who().prop_map(Step::Open),
        4 => (who(), any::<usize>(), prop_oneof![0_usize..40, 7_000_usize..20_000])
            .prop_map(|(who, at, length)| Step::Write(who, at, length)),
        2 => (who(), any::<usize>()).prop_map(|(who, at)| Step::Close(who, at)),
        1 => (who(), any::<usize>()).prop_map(|(who, at)| Step::Cancel(who, at)),
        1 => who().prop_map(Step::Lossy),
        8 => (who(), count()).prop_map(|(who, count)| Step::Take(who, count)),
        8 => (who(), count()).prop_map(|(who, count)| Step::Read(who, count)),
        8 => (who(), count()).prop_map(|(who, count)| Step::Arrive(who, count)),
        4 => (who(), count()).prop_map(|(who, count)| Step::Events(who, count)),
        1 => who().prop_map(Step::Stall),
        2 => who().prop_map(Step::Resume),
        1 => who().prop_map(Step::Rejoin),
        1 => (1_u64..200).prop_map(Step::Wait),
    ]
}

/// Both participants, by the name that is `true` or `false`.
struct Room([End; 2]);

impl Room {
    fn new() -> Self {
        Self([End::new("ann"), End::new("bob")])
    }

    fn both(&mut self, who: bool) -> (&mut End, &mut End) {
        let [one, other] = &mut self.0;
        if who { (one, other) } else { (other, one) }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Text(who, length) => {
                let (end, other) = self.both(who);
                let id = end.begin(true, other.stays);
                let text = end.part(id, length);
                end.texts.get_mut(&id).unwrap().content.clone_from(&text);
                end.side.perform(Command::SendText {
                    id,
                    topic: "whole".into(),
                    text,
                    options: SendOptions::default(),
                });
            }
            Step::Open(who) => {
                let (end, other) = self.both(who);
                let id = end.begin(false, other.stays);
                end.open.push(id);
                end.side.perform(Command::OpenText { id, topic: "parts".into(), options: SendOptions::default() });
            }
            Step::Write(who, at, length) => {
                let (end, _) = self.both(who);
                let Some(id) = end.pick(at) else { return };
                let text = end.part(id, length);
                end.texts.get_mut(&id).unwrap().content.push_str(&text);
                end.side.perform(Command::WriteText { id, text });
            }
            Step::Close(who, at) => {
                let (end, _) = self.both(who);
                let Some(id) = end.pick(at) else { return };
                end.open.retain(|open| *open != id);
                end.side.perform(Command::CloseStream { id, attributes: Vec::new() });
            }
            Step::Cancel(who, at) => {
                let (end, _) = self.both(who);
                let Some(id) = end.pick(at) else { return };
                // Its end may wait to be taken.
                end.events(usize::MAX);
                if end.open.contains(&id) {
                    end.end(id, false);
                    end.side.perform(Command::Cancel { id });
                }
            }
            Step::Lossy(who) => {
                let (topic, payload, destinations) = (String::new(), vec![0; 100], Vec::new());
                self.both(who).0.side.perform(Command::SendData { id: None, topic, payload, destinations });
            }
            Step::Take(who, count) => self.both(who).0.take(count),
            Step::Read(who, count) => self.read(who, count),
            Step::Arrive(who, count) => self.both(who).0.arrive(count),
            Step::Events(who, count) => self.both(who).0.events(count),
            Step::Stall(who) => {
                let (end, _) = self.both(who);
                if end.link == Link::Up {
                    end.link = Link::Stalled(0);
                }
            }
            Step::Resume(who) => self.resume(who),
            Step::Rejoin(who) => self.rejoin(who),
            Step::Wait(millis) => self.wait(millis),
        }
    }

    fn read(&mut self, who: bool, count: usize) {
        let (end, other) = self.both(who);
        for _ in 0..count.min(end.up.len()) {
            if let Some(packet) = end.read() {
                other.down.push_back((packet.clone(), true));
                other.forwarded.push_back(packet);
            }
        }
        while other.forwarded.len() > REPLAYED_MAX {
            other.forwarded.pop_front();
        }
        // Lossy packets overtake others, and every third is lost.
        let lossy = end.up_lossy.drain(..).enumerate().filter(|(at, _)| at % 3 != 1);
        lossy.for_each(|(_, packet)| other.down.push_front((packet, false)));
    }

    fn resume(&mut self, who: bool) {
        let (end, _) = self.both(who);
        if let Link::Stalled(_) = end.link {
            end.link = Link::Waits;
        }
        end.side.streams.resumed(end.read, end.side.now);
        if end.link == Link::Waits && end.side.streams.is_delivered() {
            end.link = Link::Up;
        }
        let again: Vec<_> = end.forwarded.iter().cloned().collect();
        end.down.extend(again.into_iter().map(|packet| (packet, true)));
    }

    fn rejoin(&mut self, who: bool) {
        let (end, other) = self.both(who);
        // A server that ends with what it acknowledged and did not read loses it: nobody can tell.
        if end.link != Link::Up || end.acknowledged > end.read {
            return;
        }
        let old = end.side.sid.clone();
        end.stays += 1;
        end.side.sid = format!("PA_{}{}", end.side.identity, end.stays);
        end.up.clear();
        end.up_lossy.clear();
        end.down.clear();
        end.forwarded.clear();
        (end.read, end.acknowledged, end.link) = (0, 0, Link::Up);
        end.side.streams.rejoined(end.side.now);
        other.side.streams.participant_left(&old, &end.side.identity, other.side.now);
    }

    fn wait(&mut self, millis: u64) {
        for end in &mut self.0 {
            // What is under way arrives within the time that a stream has after its sender left.
            end.arrive(usize::MAX);
            end.side.advance(Duration::from_millis(millis));
        }
    }

    /// Have everything arrive.
    fn finish(&mut self) {
        for who in [true, false] {
            self.resume(who);
            while let Some(id) = self.both(who).0.pick(0) {
                self.run(Step::Close(who, 0));
                assert!(!self.both(who).0.open.contains(&id));
            }
        }
        for _ in 0..500 {
            for who in [true, false] {
                self.both(who).0.take(usize::MAX);
                self.read(who, usize::MAX);
                self.both(who).0.arrive(usize::MAX);
                self.both(who).0.events(usize::MAX);
            }
        }
        for end in &mut self.0 {
            end.side.advance(AFTER_LEAVING);
            end.events(usize::MAX);
        }
    }

    fn check(&mut self) {
        for who in [true, false] {
            let (end, other) = self.both(who);
            assert!(end.side.streams.is_delivered(), "{:?} {}", end.link, end.up.len());
            assert_eq!((end.side.streams.bytes(), end.parts.len()), (0, 0));
            let mut places = Vec::new();
            for (id, text) in &end.texts {
                let found = other.arrived.iter().enumerate().filter(|(_, arrived)| **arrived == text.content);
                let found: Vec<usize> = found.map(|(place, _)| place).collect();
                let is_done = text.is_done.expect("an end");
                // An open text that nobody wrote to has no number in it.
                if text.content.is_empty() {
                    continue;
                }
                assert!(found.len() <= 1, "{id} arrived {} times", found.len());
                if is_done && text.stay_of_receiver == other.stays {
                    assert_eq!(found.len(), 1, "{id} is done and did not arrive");
                }
                if is_done && text.is_whole {
                    places.extend(found);
                }
            }
            assert!(places.is_sorted(), "out of order: {places:?}");
            for arrived in &other.arrived {
                assert!(end.texts.values().any(|text| text.content == *arrived), "not what was sent");
            }
        }
    }
}

proptest! {
    #[test]
    fn texts_arrive_once_whole_and_in_order_or_their_senders_are_told(steps in prop::collection::vec(step(), 0..150)) {
        let mut room = Room::new();
        steps.into_iter().for_each(|step| room.run(step));
        room.finish();
        room.check();
    }
}

#[test]
fn twenty_texts_across_a_resume_arrive_once_and_in_order() {
    let mut room = Room::new();
    for number in 0..20 {
        room.run(Step::Text(true, 3_000));
        room.run(Step::Take(true, 2));
        match number {
            5 => room.run(Step::Stall(true)),
            12 => room.run(Step::Resume(true)),
            _ => room.run(Step::Read(true, 2)),
        }
    }
    room.finish();
    room.check();
    assert_eq!(room.0[1].arrived.len(), 20);
    assert!(room.0[0].texts.values().all(|text| text.is_done == Some(true)));
}

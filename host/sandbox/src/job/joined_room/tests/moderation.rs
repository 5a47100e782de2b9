//! Acts of moderation.

use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use wasm_worker_core::room::moderation::{Moderation, ModerationDone, ModerationFailure, Moderator};

use super::super::super::world::World;
use super::fake::Test;
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::calls::Call;

/// Keeps what it is asked for.
#[derive(Default)]
struct Keeps(Mutex<Vec<(String, Moderation, ModerationDone)>>);

impl Moderator for Keeps {
    fn begin(&self, room: &str, act: Moderation, done: ModerationDone) {
        self.0.lock().unwrap().push((room.into(), act, done));
    }
}

impl Keeps {
    fn take(&self) -> Vec<(String, Moderation, ModerationDone)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn granted() -> (Test, Arc<Keeps>) {
    let (mut test, moderator) = (Test::new(1 << 20), Arc::<Keeps>::default());
    test.room.place.moderator = Some(moderator.clone());
    (test, moderator)
}

fn failure(event: &Event) -> (u32, &str, u16, &str) {
    let Event::Failed(failure) = event else { panic!("{event:?}") };
    (failure.id, &failure.code, failure.status, &failure.message)
}

#[test]
fn acts_are_about_the_room_of_the_job_and_their_outcomes_are_told() {
    let (mut test, moderator) = granted();
    let removed = test.call(|id| Call::RemoveParticipant { id, identity: "ann".into() });
    let moved = test.call(|id| Call::MoveParticipant { id, identity: "bob".into(), destination: "other".into() });
    let muted = test.call(|id| Call::MuteTrack { id, identity: "cleo".into(), track_sid: "TR".into(), muted: true });
    let deleted = test.call(|id| Call::DeleteRoom { id });
    let begun = moderator.take();
    let acts = [
        Moderation::RemoveParticipant { identity: "ann".into() },
        Moderation::MoveParticipant { identity: "bob".into(), destination: "other".into() },
        Moderation::MuteTrack { identity: "cleo".into(), track_sid: "TR".into(), muted: true },
        Moderation::DeleteRoom,
    ];
    assert!(begun.iter().map(|(room, act, _)| (&**room, act)).eq(acts.iter().map(|act| ("lobby", act))));
    assert!(test.room.nothing_to_come().is_none() && !test.room.is_delivered());

    let mut context = Context::from_waker(Waker::noop());
    assert!(test.room.poll_ready(&mut context).is_pending());
    let failed = || ModerationFailure { code: "not-found", status: 404, message: "no such participant".into() };
    let [one, two, three, four]: [_; 4] = begun.try_into().ok().unwrap();
    (one.2)(Ok(()));
    (two.2)(Err(failed()));
    // The moderator gives it up.
    drop(three);
    assert!(test.room.poll_ready(&mut context).is_ready());
    test.advance(0);
    let events = test.events();
    assert!(matches!(&events[0], Event::Done(done) if done.id == removed), "{events:?}");
    assert_eq!(failure(&events[1]), (moved, "not-found", 404, "no such participant"));
    assert_eq!(failure(&events[2]), (muted, "interrupted", 0, "the act was given up"));
    // An act that the agent gave up tells nothing.
    test.perform(Call::Cancel { id: deleted });
    (four.2)(Ok(()));
    test.advance(0);
    assert!(test.events().is_empty() && test.room.is_delivered());
    assert!(test.room.nothing_to_come().is_some());
}

#[test]
fn a_job_has_a_bounded_number_of_open_acts() {
    let (mut test, moderator) = granted();
    let delete = |test: &mut Test| test.call(|id| Call::DeleteRoom { id });
    for _ in 0..16 {
        delete(&mut test);
    }
    let over = delete(&mut test);
    assert_eq!(test.failures(), [(over, "limit".to_owned())]);
    let (mut other, _) = granted();
    let long = other.call(|id| Call::RemoveParticipant { id, identity: "x".repeat(4 << 10 | 1) });
    assert_eq!(other.failures(), [(long, "too-large".to_owned())]);
    let (_, _, done) = moderator.take().pop().unwrap();
    done(Ok(()));
    // The others are given up.
    test.advance(0);
    assert_eq!(test.events().len(), 16);
    delete(&mut test);
    assert_eq!(moderator.take().len(), 1);
}

#[test]
fn an_agent_without_the_grant_is_told_the_line_to_add() {
    let mut test = Test::new(1 << 20);
    let id = test.call(|id| Call::DeleteRoom { id });
    let events = test.events();
    let (failed, code, status, message) = failure(&events[0]);
    assert_eq!((failed, code, status), (id, "not-allowed", 0));
    assert!(message.contains("`moderate = \"on\"`"), "{message}");
}

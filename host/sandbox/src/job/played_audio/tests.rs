//! The sound of a room as the agent is told it.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::guest::bindings::wasm_worker::agent::audio as contract;
use crate::guest::events::{id_of, name_of};
use crate::job::world::{JobWithoutGuest, perform_all};
use crate::sound::{bytes_of, sine};

struct Test {
    audio: PlayedAudio,
    job: JobWithoutGuest,
    joined: bool,
}

fn options() -> contract::Subscription {
    contract::Subscription {
        rate: 8_000,
        frame_ms: 20,
        frames: contract::Delivery::All,
        before_ms: 0,
        after_ms: 0,
        detect_voice: false,
        threshold: 0.0,
        min_voice_ms: 0,
        min_silence_ms: 0,
        level_ms: 0,
    }
}

impl Test {
    fn new() -> Self {
        let audio = PlayedAudio::new(true);
        Self { audio, job: JobWithoutGuest::new(1 << 20), joined: true }
    }

    fn call(&mut self, after_ms: u64, call: impl FnOnce(u32) -> Call) -> u32 {
        let id = self.job.id();
        self.perform(after_ms, call(id));
        id
    }

    fn perform(&mut self, after_ms: u64, call: Call) {
        let mut world = World { audio: &mut self.audio, joined: self.joined };
        perform_all(&mut world, std::iter::once(call), &mut self.job.access(after_ms)).unwrap();
    }

    fn follow(&mut self, people: bool) -> u32 {
        let rule = contract::Rule { participant: String::new(), source: "microphone".into(), people };
        self.call(0, |id| Call::FollowAudio { id, rule, options: options() })
    }

    fn publish(&mut self) -> u32 {
        let options =
            contract::Publication { name: String::new(), source: String::new(), rate: 8_000, bits_per_second: 0 };
        self.call(0, |id| Call::PublishAudio { id, options })
    }

    fn say(&mut self, after_ms: u64, who: (&str, bool), millis: u64) {
        let samples = sine(440.0, 16_000, Duration::from_millis(millis));
        self.audio.say(who, Arc::new(Sound { rate: 16_000, samples }), &mut self.job.access(after_ms)).unwrap();
    }

    /// What the agent is told up to this time.
    fn step(&mut self, after_ms: u64) -> Vec<(&'static str, u32)> {
        self.audio.advance(&mut self.job.access(after_ms)).unwrap();
        self.told()
    }

    fn told(&mut self) -> Vec<(&'static str, u32)> {
        let mut world = World { audio: &mut self.audio, joined: self.joined };
        self.job.step(&mut world).iter().map(|event| (name_of(event), id_of(event))).collect()
    }
}

/// The sound of a room, without the room.
struct World<'a> {
    audio: &'a mut PlayedAudio,
    joined: bool,
}

impl crate::job::world::World for World<'_> {
    fn launched(&mut self, _: Instant) {}

    fn perform(&mut self, call: Call, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let left = self.audio.perform(call, self.joined, job)?;
        assert_eq!(left, None, "it is a call of sound");
        Ok(())
    }

    fn is_given(&mut self, event: &Event, _: Instant) {
        self.audio.is_given(event);
    }

    fn wake_at(&self) -> Option<Instant> {
        self.audio.wake_at()
    }

    fn advance(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.audio.advance(job)
    }

    fn nothing_to_come(&self) -> Option<&'static str> {
        None
    }

    fn is_joined(&self) -> bool {
        self.joined
    }

    fn is_delivered(&self) -> bool {
        true
    }

    fn into_record(self: Box<Self>) -> wasm_worker_core::record::RoomRecord {
        Default::default()
    }
}

#[test]
fn a_person_who_speaks_has_a_track_that_rules_follow() {
    let mut test = Test::new();
    let (people, all) = (test.follow(true), test.follow(false));
    test.say(0, ("bot", false), 100);
    let starts = [("track-published", 0), ("audio-started", 3)];
    assert_eq!(test.told(), starts, "a program is none of the people");
    assert_eq!((people, all), (1, 2));
    test.say(0, ("ann", true), 50);
    assert_eq!(test.told(), [("track-published", 0), ("audio-started", 4), ("audio-started", 5)]);
    assert_eq!(test.step(20), [("audio", 3), ("audio", 4), ("audio", 5)]);
    test.perform(20, Call::Cancel { id: people });
    assert_eq!(test.step(40), [("audio", 3), ("audio", 4), ("audio", 5)], "its tracks go on");
    test.perform(40, Call::Cancel { id: 4 });
    test.audio.leave("ann", &mut test.job.access(45)).unwrap();
    assert_eq!(test.told(), [("audio-ended", 5), ("track-unpublished", 0)]);
    assert_eq!(test.audio.used().heard_ms, 6 * 20);
}

#[test]
fn one_track_is_heard_from_the_subscription_on() {
    let mut test = Test::new();
    test.say(0, ("ann", true), 100);
    assert_eq!(test.told(), [("track-published", 0)]);
    let nobody = test.call(0, |id| Call::SubscribeAudio { id, track_sid: "TR_bob".into(), options: options() });
    assert_eq!(test.told(), [("failed", nobody)]);
    let id = test.call(50, |id| Call::SubscribeAudio { id, track_sid: "TR_ann".into(), options: options() });
    assert_eq!(test.step(69), [("audio-started", id)]);
    assert_eq!(test.step(500), [("audio", id); 3]);
    assert_eq!(test.audio.wake_at(), None, "nothing more is said");
    assert!(test.audio.is_silent(test.job.access(500).now));
}

#[test]
fn the_agent_is_heard_once_somebody_is_there() {
    let mut test = Test::new();
    let id = test.publish();
    assert_eq!(test.told(), [("audio-published", id)]);
    test.audio.has_listener(&mut test.job.access(0)).unwrap();
    test.audio.has_listener(&mut test.job.access(0)).unwrap();
    assert_eq!(test.told(), [("audio-subscribed", id)]);
    test.perform(0, Call::WriteAudio { id, pcm: bytes_of(&[7; 800]) });
    test.perform(0, Call::CloseAudio { id });
    assert_eq!(test.told(), [("audio-playout", id)]);
    assert_eq!(test.audio.bytes_waiting(), 1_600);
    assert_eq!(test.step(200), [("audio-playout", id), ("done", id)]);
    let played = test.audio.take_played();
    assert_eq!(played.iter().map(|part| part.samples.len()).sum::<usize>(), 800);
    assert_eq!((test.audio.used().spoken_ms, test.audio.bytes_waiting()), (100, 0));
}

#[test]
fn sound_that_is_wrong_ends_its_track_and_what_has_no_room_fails() {
    let mut test = Test::new();
    let id = test.publish();
    test.told();
    test.perform(0, Call::WriteAudio { id, pcm: vec![1] });
    assert_eq!(test.told(), [("failed", id)]);
    test.perform(0, Call::WriteAudio { id, pcm: vec![1, 2] });
    assert!(test.told().is_empty());
    let options = contract::Publication { name: String::new(), source: String::new(), rate: 1, bits_per_second: 0 };
    let wrong = test.call(0, |id| Call::PublishAudio { id, options });
    let rule = test.follow(true);
    test.joined = false;
    let outside = test.publish();
    assert_eq!(test.told(), [("failed", wrong), ("failed", outside)]);
    test.audio.fail("gone", &mut test.job.access(0)).unwrap();
    assert_eq!(test.told(), [("failed", rule)]);
}

#[test]
fn an_agent_has_a_bounded_number_of_subscriptions() {
    let mut test = Test::new();
    let ids: Vec<u32> = (0..=SUBSCRIPTIONS_MAX).map(|_| test.follow(true)).collect();
    assert_eq!(test.told(), [("failed", *ids.last().unwrap())]);
}

//! The sound of a room as the agent is told it.

use std::sync::Arc;
use std::time::Duration;

use wasm_worker_core::room::audio::options::{OWN_MAX, RULES_MAX};

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
    let ids: Vec<u32> = (0..=RULES_MAX).map(|_| test.follow(true)).collect();
    assert_eq!(test.told(), [("failed", *ids.last().unwrap())]);
    // Each rule follows the first person, and none has room for the second.
    test.say(0, ("ann", true), 20);
    assert_eq!(test.told().len(), 1 + RULES_MAX);
    test.say(0, ("bob", true), 20);
    assert_eq!(test.told(), [vec![("track-published", 0)], vec![("lost", 0); RULES_MAX]].concat());
    let one = test.call(0, |id| Call::SubscribeAudio { id, track_sid: "TR_bob".into(), options: options() });
    assert_eq!(test.told(), [("failed", one)]);
    let tracks: Vec<u32> = (0..=OWN_MAX).map(|_| test.publish()).collect();
    assert_eq!(test.told().last(), Some(&("failed", tracks[OWN_MAX])));
}

#[test]
fn a_followed_track_that_is_not_told_yet_ends_with_the_room() {
    let mut test = Test::new();
    let rule = test.follow(true);
    test.say(0, ("ann", true), 1_000);
    test.audio.fail("gone", &mut test.job.access(40)).unwrap();
    assert_eq!(test.told(), [("track-published", 0), ("audio-started", 2), ("failed", rule)]);
    assert!(test.audio.wake_at().is_some(), "its end is to be told");
    assert_eq!(test.step(50), [("audio", 2), ("audio", 2), ("audio-ended", 2)]);
    assert_eq!((test.step(5_000), test.audio.wake_at()), (Vec::new(), None));
    // The agent is outside, and is told no track.
    test.audio.leave("ann", &mut test.job.access(5_000)).unwrap();
    test.say(5_000, ("bob", true), 1_000);
    assert!(test.told().is_empty());
    test.audio.joined(true, &mut test.job.access(5_000)).unwrap();
    assert_eq!(test.told(), [("track-published", 0)]);
}

#[test]
fn heard_tracks_end_with_the_room_and_what_else_was_begun_fails() {
    let mut test = Test::new();
    test.say(0, ("ann", true), 1_000);
    test.told();
    let [one, held] = [(); 2]
        .map(|()| test.call(0, |id| Call::SubscribeAudio { id, track_sid: "TR_ann".into(), options: options() }));
    let (rule, own) = (test.follow(false), test.publish());
    test.perform(0, Call::Hold { id: held, held: true });
    test.step(0);
    test.audio.fail("gone", &mut test.job.access(30)).unwrap();
    let ended = |id: u32| ["audio", "audio-ended"].map(|name| (name, id));
    let ends = [one, held, own + 1].map(ended).concat();
    assert_eq!(test.told(), [ends, vec![("failed", rule), ("failed", own)]].concat());
    assert_eq!((test.step(5_000), test.audio.wake_at()), (Vec::new(), None));
}

#[test]
fn a_person_who_leaves_ends_its_subscriptions_once_also_after_it_came_again() {
    let mut test = Test::new();
    test.follow(true);
    test.say(0, ("ann", true), 1_000);
    // The agent does not know the id yet.
    test.audio.leave("ann", &mut test.job.access(30)).unwrap();
    assert_eq!(test.told(), [("track-published", 0), ("audio-started", 2), ("track-unpublished", 0)]);
    assert!(test.audio.wake_at().is_some(), "its end is to be told");
    test.say(40, ("ann", true), 1_000);
    assert_eq!(test.step(40), [("track-published", 0), ("audio-started", 3), ("audio", 2), ("audio-ended", 2)]);
    // The agent holds the track while the person leaves and comes again.
    test.perform(60, Call::Hold { id: 3, held: true });
    test.audio.leave("ann", &mut test.job.access(80)).unwrap();
    test.say(100, ("ann", true), 1_000);
    assert_eq!(test.step(100), [("track-unpublished", 0), ("track-published", 0), ("audio-started", 4)]);
    assert_eq!(test.step(120), [("audio", 4)]);
    test.perform(130, Call::Hold { id: 3, held: false });
    assert_eq!(test.told(), [("audio", 3), ("audio", 3), ("audio-ended", 3)]);
    test.audio.leave("ann", &mut test.job.access(130)).unwrap();
    assert_eq!(test.told(), [("audio-ended", 4), ("track-unpublished", 0)]);
    assert_eq!((test.step(5_000), test.audio.wake_at()), (Vec::new(), None));
    assert_eq!(test.audio.used().heard_ms, 4 * 20);
}

#[test]
fn what_is_kept_of_a_long_write_comes_piece_by_piece() {
    for is_woken in [true, false] {
        let mut test = Test::new();
        let id = test.publish();
        test.perform(0, Call::WriteAudio { id, pcm: bytes_of(&[7; 8_000]) });
        let mut pieces = Vec::new();
        while let Some(due) = test.audio.wake_at() {
            let after_ms = if is_woken { (due - test.job.launched).as_millis() } else { 1_000 };
            test.audio.advance(&mut test.job.access(u64::try_from(after_ms).unwrap())).unwrap();
            let begins = |part: &Played| ((part.at - test.job.launched).as_millis(), part.samples.len());
            pieces.extend(test.audio.take_played().iter().map(begins));
        }
        assert_eq!(pieces, (0..20).map(|number| (number * 50, 400)).collect::<Vec<_>>());
    }
}

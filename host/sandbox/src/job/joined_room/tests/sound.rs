//! Sound: what the agent hears, and what it says.

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::{AudioCommand, AudioEvent, AudioFrame, AudioStatistics, HeardId, PlayoutState};
use wasm_worker_core::room::command::{Command, IncomingId};
use wasm_worker_core::room::connection::RoomStatistics;
use wasm_worker_core::room::event::{Failure, Reason, RoomEvent};
use wasm_worker_core::room::people::{Track, TrackKind};

use super::super::super::world::World;
use super::fake::{Test, disconnected};
use crate::guest::bindings::wasm_worker::agent::audio::{Delivery, Publication, Rule, Subscription};
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::calls::Call;

const FOLLOWED: IncomingId = IncomingId(1);

fn options(rate: u32) -> Subscription {
    Subscription {
        rate,
        frame_ms: 20,
        frames: Delivery::All,
        before_ms: 0,
        after_ms: 0,
        detect_voice: true,
        threshold: 0.0,
        min_voice_ms: 0,
        min_silence_ms: 0,
        level_ms: 0,
    }
}

fn subscribe(test: &mut Test) -> u32 {
    test.call(|id| Call::SubscribeAudio { id, track_sid: "TR_1".into(), options: options(16_000) })
}

fn follow(test: &mut Test) -> u32 {
    let rule = Rule { participant: String::new(), source: "microphone".into(), people: true };
    test.call(|id| Call::FollowAudio { id, rule, options: options(8_000) })
}

fn publish(test: &mut Test) -> u32 {
    let options = Publication { name: "voice".into(), source: String::new(), rate: 24_000, bits_per_second: 0 };
    test.call(|id| Call::PublishAudio { id, options })
}

fn track() -> Track {
    Track {
        sid: "TR_1".into(),
        participant: "ann".into(),
        name: String::new(),
        kind: TrackKind::Audio,
        source: "microphone",
        mime_type: "audio/opus".into(),
        attributes: Vec::new(),
        muted: false,
        encrypted: false,
    }
}

fn started(id: HeardId, rule: Option<u32>) -> RoomEvent {
    RoomEvent::Audio(AudioEvent::Started { id, rule, track: track() })
}

/// 20 ms at 8 kHz.
fn frame(id: HeardId, at: Instant) -> RoomEvent {
    let (concealed, dropped, pcm) = (Duration::ZERO, Duration::ZERO, vec![0; 320]);
    RoomEvent::Audio(AudioEvent::Frame(AudioFrame { id, at: at.into_std(), concealed, dropped, pcm }))
}

fn frames(id: HeardId, at: Instant, count: u64) -> impl Iterator<Item = RoomEvent> {
    (0..count).map(move |number| frame(id, at + Duration::from_millis(20 * number)))
}

fn audio(command: AudioCommand) -> Command {
    Command::Audio(command)
}

#[test]
fn sound_needs_a_room_that_is_joined_or_being_joined() {
    let mut test = Test::new(1 << 20);
    let ids = [subscribe(&mut test), follow(&mut test), publish(&mut test)];
    assert_eq!(test.failures(), ids.map(|id| (id, "not-joined".into())));
    test.call(|id| Call::Connect { id });
    let id = publish(&mut test);
    assert!(
        matches!(&test.commands()[..], [.., Command::Audio(AudioCommand::Publish { id: asked, .. })] if *asked == id)
    );
}

#[test]
fn a_subscribed_track_has_the_id_of_its_subscription_and_ends_it() {
    let mut test = Test::joined();
    let id = subscribe(&mut test);
    let (heard, at) = (HeardId::Asked(id), Instant::now());
    test.tell([
        started(heard, None),
        frame(heard, at),
        RoomEvent::Audio(AudioEvent::VoiceStarted { id: heard, at: at.into_std() }),
        frame(heard, at),
        RoomEvent::Audio(AudioEvent::Ended { id: heard }),
        frame(heard, at),
    ]);
    let names = ["audio-started", "audio", "voice-started", "audio", "audio-ended"];
    assert_eq!(test.step(), names.map(|name| (name, id)), "frames do not pass what happened before them");
    assert!(!test.job.ids.is_open(id));
    test.commands();
    for call in [Call::Hold { id, held: true }, Call::Cancel { id }] {
        test.perform(call);
    }
    assert!(test.commands().is_empty(), "the id is over");
}

#[test]
fn a_track_that_cannot_be_heard_fails() {
    let mut test = Test::joined();
    let id = subscribe(&mut test);
    test.tell([RoomEvent::Failed(Failure { id, code: "refused", message: "no such track".into() })]);
    assert_eq!(test.failures(), [(id, "refused".into())]);
}

#[test]
fn a_followed_track_has_an_id_from_its_delivery_on_and_outlives_its_rule() {
    let mut test = Test::joined();
    let rule = follow(&mut test);
    let (heard, at) = (HeardId::Followed(FOLLOWED), Instant::now());
    test.tell(std::iter::once(started(heard, Some(rule))).chain(frames(heard, at, 5)));
    let events = test.events();
    let [Event::AudioStarted(start)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((start.rule, start.id), (rule, rule + 1));
    let id = start.id;
    test.advance(0);
    let events = test.events();
    let [Event::Audio(sound)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((sound.id, sound.pcm.len()), (id, 5 * 320), "frames that waited are one event");
    test.perform(Call::Cancel { id: rule });
    test.tell([frame(heard, at), RoomEvent::Audio(AudioEvent::Ended { id: heard }), frame(heard, at)]);
    assert_eq!(test.step(), [("audio", id), ("audio-ended", id)]);
    assert!(!test.job.ids.is_open(id));
}

#[test]
fn a_track_that_is_found_for_a_rule_which_is_over_is_given_up() {
    let mut test = Test::joined();
    let rule = follow(&mut test);
    test.perform(Call::Cancel { id: rule });
    test.commands();
    test.tell([started(HeardId::Followed(FOLLOWED), Some(rule)), frame(HeardId::Followed(FOLLOWED), Instant::now())]);
    assert!(test.events().is_empty());
    assert_eq!(test.commands(), [audio(AudioCommand::CancelHeard { id: FOLLOWED })]);
}

#[test]
fn a_followed_track_is_held_and_given_up_by_its_own_id() {
    let mut test = Test::joined();
    let rule = follow(&mut test);
    let (heard, at) = (HeardId::Followed(FOLLOWED), Instant::now());
    test.tell([started(heard, Some(rule))]);
    let id = rule + 1;
    assert_eq!(test.step(), [("audio-started", id)]);
    test.commands();
    test.perform(Call::Hold { id, held: true });
    test.tell([frame(heard, at)]);
    assert!(test.events().is_empty(), "what was on its way is held here");
    test.perform(Call::Hold { id, held: false });
    test.advance(0);
    assert_eq!(test.step(), [("audio", id)]);
    test.perform(Call::Cancel { id });
    let hold = |held| audio(AudioCommand::HoldHeard { id: heard, held });
    assert_eq!(test.commands(), [hold(true), hold(false), audio(AudioCommand::CancelHeard { id: FOLLOWED })]);
    test.tell([frame(heard, at)]);
    assert!(test.events().is_empty());
}

#[test]
fn a_track_of_the_agent_tells_its_course_and_ends_as_done() {
    let mut test = Test::joined();
    let id = publish(&mut test);
    let (played, at) = (Duration::from_millis(40), Instant::now().into_std());
    let playout = |state| RoomEvent::Audio(AudioEvent::Playout { id, state, played, at });
    test.tell([
        RoomEvent::Audio(AudioEvent::Published { id, track_sid: "TR_2".into() }),
        RoomEvent::Audio(AudioEvent::Subscribed { id }),
        playout(PlayoutState::Playing),
        RoomEvent::Writable(id),
    ]);
    let names = ["audio-published", "audio-subscribed", "audio-playout", "writable"];
    assert_eq!(test.step(), names.map(|name| (name, id)));
    test.commands();
    for call in [
        Call::WriteAudio { id, pcm: vec![1, 2] },
        Call::MarkAudio { id, mark: 4 },
        Call::Hold { id, held: true },
        Call::MuteAudio { id, muted: true },
        Call::ClearAudio { id },
        Call::CloseAudio { id },
    ] {
        test.perform(call);
    }
    let commands = [
        AudioCommand::Write { id, pcm: vec![1, 2] },
        AudioCommand::Mark { id, mark: 4 },
        AudioCommand::HoldPlayout { id, held: true },
        AudioCommand::Mute { id, muted: true },
        AudioCommand::Clear { id },
        AudioCommand::Close { id },
    ];
    assert_eq!(test.commands(), commands.map(audio));
    let marked = AudioEvent::Marked { id, mark: 4, cleared: true, played, at };
    test.tell([playout(PlayoutState::Held), RoomEvent::Audio(marked), RoomEvent::Done(id)]);
    assert_eq!(test.step(), ["audio-playout", "audio-marked", "done"].map(|name| (name, id)), "a held track tells on");
    test.perform(Call::WriteAudio { id, pcm: vec![1, 2] });
    assert!(test.commands().is_empty(), "the id is over");
}

#[test]
fn calls_on_ids_that_are_unknown_or_of_another_kind_do_nothing() {
    let mut test = Test::joined();
    for call in [Call::WriteAudio { id: 99, pcm: vec![0; 2] }, Call::ClearAudio { id: 99 }, Call::CloseAudio { id: 99 }]
    {
        test.perform(call);
    }
    assert!(test.commands().is_empty() && test.events().is_empty());
}

#[test]
fn what_the_room_loses_for_good_fails_and_a_new_room_begins_anew() {
    let mut test = Test::joined();
    let (rule, own) = (follow(&mut test), publish(&mut test));
    test.tell([started(HeardId::Followed(FOLLOWED), Some(rule))]);
    let track = own + 1;
    assert_eq!(test.step(), [("audio-started", track)]);
    test.state().statistics.audio.heard = Duration::from_secs(3);
    test.tell([disconnected(Reason::Overrun)]);
    assert_eq!(test.step(), [("failed", rule), ("failed", own), ("failed", track), ("disconnected", 0)]);
    test.state().statistics = RoomStatistics::default();
    let id = test.call(|id| Call::Connect { id });
    test.tell([super::fake::connected(), RoomEvent::Done(id)]);
    test.events();
    test.state().statistics.audio.heard = Duration::from_secs(4);
    assert_eq!(test.room.audio_use().heard_ms, 7_000, "the bill has both rooms");
}

#[test]
fn the_job_knows_what_waits_in_its_room() {
    let test = Test::joined();
    let audio = AudioStatistics { bytes_waiting: 500, heard_tracks: 2, own_tracks: 1, ..AudioStatistics::default() };
    test.state().statistics = RoomStatistics { bytes_waiting: 1_000, audio, ..RoomStatistics::default() };
    assert_eq!(test.room.bytes_waiting(), 1_500);
    let tracks = test.job.control.room(0).unwrap().tracks;
    assert_eq!((tracks.heard, tracks.published), (2, 1));
}

#[test]
fn an_agent_that_is_busy_gets_its_sound_in_few_events_and_texts_are_not_lost() {
    // The inbox has half of it.
    let mut test = Test::new(256 << 10);
    let id = test.call(|id| Call::Connect { id });
    test.tell([super::fake::connected(), RoomEvent::Done(id)]);
    test.events();
    let id = test.call(|id| Call::SubscribeAudio { id, track_sid: "TR_1".into(), options: options(8_000) });
    let heard = HeardId::Asked(id);
    test.tell([started(heard, None)]);
    test.events();
    let text = RoomEvent::Data { sender: None, topic: "t".into(), payload: vec![0; 9], reliable: true };
    let at = Instant::now();
    test.tell(frames(heard, at, 60).chain([text.clone()]).chain(frames(heard, at + Duration::from_millis(1_200), 60)));
    let (mut sound, mut events) = (0, 0);
    let mut texts = 0;
    for _ in 0..4 {
        for event in test.events() {
            events += 1;
            match event {
                Event::Audio(frame) => sound += frame.pcm.len(),
                Event::Data(_) => texts += 1,
                other => panic!("{other:?}"),
            }
        }
        test.advance(0);
    }
    assert_eq!((sound, texts), (120 * 320, 1));
    assert!(events <= 5, "{events} events");
    assert_eq!(test.job.control.inbox.dropped(), 0);
}

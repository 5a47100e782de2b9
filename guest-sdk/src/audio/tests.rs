//! Sound with made events.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::{AudioEvent, AudioSource, AudioStream, AudioTracks, Publication, Rule, Subscription};
use crate::native::{self, Call};
use crate::types::{
    AudioFrame, AudioMark, AudioStart, Completion, Failure, Playout, PlayoutState, Track, TrackKind, Voice,
};
use crate::{Event, JobContext, Operation, calls, spawn};

type Slot<T> = Rc<RefCell<Option<T>>>;

/// Begins a task whose output is kept.
fn keep<T: 'static>(future: impl Future<Output = T> + 'static) -> Slot<T> {
    let slot = Rc::new(RefCell::new(None));
    let kept = slot.clone();
    spawn("test", async move {
        let output = future.await;
        kept.replace(Some(output));
    });
    native::step(0.0, Vec::new());
    slot
}

fn track() -> Track {
    Track {
        sid: "TR".into(),
        participant: "ann".into(),
        name: String::new(),
        kind: TrackKind::Audio,
        source: "microphone".into(),
        mime_type: String::new(),
        attributes: Vec::new(),
        muted: false,
        encrypted: false,
    }
}

fn started(id: u32, rule: u32) -> Event {
    Event::AudioStarted(AudioStart { id, rule, track: track() })
}

fn frame(id: u32) -> Event {
    Event::Audio(AudioFrame { id, at_ms: 0.0, concealed_ms: 0, dropped_ms: 0, pcm: vec![1, 0, 0xff, 0xff] })
}

fn playout(state: PlayoutState, played_ms: f64, at_ms: f64) -> Event {
    Event::AudioPlayout(Playout { id: 1, state, played_ms, at_ms })
}

async fn read(mut heard: AudioStream) -> (Vec<&'static str>, Option<String>, Option<Failure>) {
    let mut read = Vec::new();
    loop {
        match heard.next().await {
            Ok(Some(AudioEvent::Frame(frame))) => {
                assert_eq!(frame.samples(), [1, -1]);
                read.push("frame");
            }
            Ok(Some(AudioEvent::VoiceStarted(_))) => read.push("started"),
            Ok(Some(AudioEvent::VoiceEnded(_))) => read.push("ended"),
            Ok(Some(AudioEvent::Level(_))) => read.push("level"),
            Ok(None) => return (read, heard.track().map(|track| track.participant.clone()), None),
            Err(failure) => return (read, None, Some(failure)),
        }
    }
}

fn tracks() -> AudioTracks {
    let id = calls::audio::follow(&Rule::people(), Subscription::default());
    AudioTracks(Operation::new(id, "test"))
}

fn source(rate: u32) -> Rc<AudioSource> {
    let source = Rc::new(AudioSource::publish(&Publication { rate, ..Publication::default() }));
    assert!(matches!(&native::take_calls()[..], [Call::AudioPublish(1, _)]));
    source
}

#[test]
fn speaker_waits_for_the_first_listener() {
    let source = source(16_000);
    let waiting = source.clone();
    let heard = keep(async move { waiting.wait_for_subscription().await });
    native::step(1.0, vec![playout(PlayoutState::Playing, 0.0, 1.0)]);
    assert!(heard.take().is_none());
    native::step(2.0, vec![Event::AudioSubscribed(1)]);
    assert!(matches!(heard.take(), Some(Ok(()))));
    // Whoever asks later does not wait.
    let later = keep(async move { source.wait_for_subscription().await });
    assert!(matches!(later.take(), Some(Ok(()))));
}

/// Bytes of the sound that was written since the last time this was asked.
fn written() -> usize {
    let sizes = native::take_calls().into_iter().filter_map(|call| match call {
        Call::AudioWrite(1, pcm) => Some(pcm.len()),
        _ => None,
    });
    sizes.sum()
}

#[test]
fn followed_track_is_heard_from_its_first_frame_on() {
    let slot = keep(async {
        let mut people = tracks();
        let heard = people.next().await.unwrap().unwrap();
        read(heard).await
    });
    let voice = |id| Voice { id, at_ms: 0.0 };
    native::step(1.0, vec![started(2, 1), frame(2), Event::VoiceStarted(voice(2))]);
    native::step(2.0, vec![Event::VoiceEnded(voice(2)), frame(2), Event::AudioEnded(2)]);
    let (read, participant, _) = slot.take().unwrap();
    assert_eq!(read, ["frame", "started", "ended", "frame"]);
    assert_eq!(participant.as_deref(), Some("ann"));
    assert!(matches!(native::take_calls()[..], [Call::AudioFollow(1, _), Call::Cancel(1)]), "the rule is dropped");
}

#[test]
fn tracks_that_nobody_takes_are_given_up_with_their_rule() {
    let people = tracks();
    native::step(1.0, vec![started(2, 1), frame(2)]);
    drop(people);
    assert!(matches!(native::take_calls()[..], [Call::AudioFollow(1, _), Call::Cancel(2), Call::Cancel(1)]));
    // One that was on its way.
    native::step(2.0, vec![started(3, 1), frame(3)]);
    assert!(matches!(native::take_calls()[..], [Call::Cancel(3)]));
    assert_eq!(native::open_ids(), 0);
}

#[test]
fn track_that_cannot_be_heard_is_an_error() {
    let id = calls::audio::subscribe("TR", Subscription::default());
    let slot = keep(read(AudioStream { operation: Operation::new(id, "test"), track: None }));
    let failure = Failure { id, code: "refused".into(), status: 0, message: String::new() };
    native::step(1.0, vec![Event::Failed(failure)]);
    assert_eq!(slot.take().unwrap().2.unwrap().code, "refused");
}

#[test]
fn writer_is_a_second_ahead_of_what_is_played() {
    let source = source(8_000);
    let writer = source.clone();
    let slot = keep(async move { writer.capture_frame(&[0; 8 * 3_000]).await });
    // The third part is written while exactly one second waits.
    assert_eq!((written(), source.queued()), (16 * 1_500, Duration::from_millis(1_500)));
    native::step(10.0, vec![playout(PlayoutState::Playing, 0.0, 10.0)]);
    assert_eq!(written(), 0);
    native::step(1_010.0, Vec::new());
    assert_eq!((written(), source.position()), (16 * 1_000, Duration::from_millis(1_000)));
    native::step(2_010.0, Vec::new());
    assert_eq!(written(), 16 * 500);
    slot.take().unwrap().unwrap();
    let waiting = source.clone();
    let slot = keep(async move { waiting.wait_for_playout().await });
    native::step(3_010.0, vec![playout(PlayoutState::Drained, 3_000.0, 3_010.0)]);
    slot.take().unwrap().unwrap();
    assert_eq!((source.position(), source.queued()), (Duration::from_secs(3), Duration::ZERO));
}

#[test]
fn held_track_holds_its_writer() {
    let source = source(8_000);
    let writer = source.clone();
    let slot = keep(async move { writer.capture_frame(&[0; 8 * 2_000]).await });
    native::step(0.0, vec![playout(PlayoutState::Playing, 0.0, 0.0), playout(PlayoutState::Held, 100.0, 100.0)]);
    written();
    native::step(60_000.0, Vec::new());
    assert!(written() == 0 && slot.borrow().is_none());
    native::step(60_000.0, vec![playout(PlayoutState::Playing, 100.0, 60_000.0)]);
    native::step(60_900.0, Vec::new());
    assert!(written() > 0);
    slot.take().unwrap().unwrap();
}

#[test]
fn clear_discards_what_waits_and_frees_the_writer() {
    let source = source(8_000);
    let writer = source.clone();
    let slot = keep(async move { writer.capture_frame(&[0; 8 * 2_000]).await });
    native::step(0.0, vec![playout(PlayoutState::Playing, 0.0, 0.0)]);
    written();
    source.clear_queue();
    assert_eq!(source.queued(), Duration::ZERO);
    native::step(200.0, vec![playout(PlayoutState::Cleared, 200.0, 200.0)]);
    assert_eq!(written(), 16 * 500, "the rest is written after it");
    slot.take().unwrap().unwrap();
    assert_eq!((source.position(), source.queued()), (Duration::from_millis(200), Duration::from_millis(500)));
}

#[test]
fn marks_wait_for_their_reader_and_do_not_pause_the_sound() {
    let source = source(8_000);
    let marked = |mark, cleared| Event::AudioMarked(AudioMark { id: 1, mark, cleared, played_ms: 0.0, at_ms: 0.0 });
    native::step(1.0, (0..200).map(|mark| marked(mark, mark > 100)).collect());
    let reader = source.clone();
    let slot = keep(async move {
        let mut last = None;
        for _ in 0..200 {
            last = reader.next_mark().await;
        }
        last.map(|mark| (mark.mark, mark.cleared))
    });
    assert_eq!(slot.take().unwrap(), Some((199, true)));
    assert!(native::take_calls().is_empty(), "nothing was held");
    let reader = source.clone();
    let slot = keep(async move { reader.next_mark().await.is_none() });
    native::step(
        2.0,
        vec![Event::Failed(Failure { id: 1, code: "not-joined".into(), status: 0, message: String::new() })],
    );
    assert_eq!(slot.take(), Some(true));
    let writer = source.clone();
    let slot = keep(async move { writer.capture_frame(&[0; 10]).await });
    assert_eq!(slot.take().unwrap().unwrap_err().code, "not-joined");
}

fn marked(mark: u32) -> Event {
    Event::AudioMarked(AudioMark { id: 1, mark, cleared: false, played_ms: 0.0, at_ms: 0.0 })
}

#[test]
fn marks_before_the_end_of_a_track_are_told_before_it() {
    let source = source(8_000);
    let lost = Failure { id: 1, code: "not-joined".into(), status: 0, message: String::new() };
    native::step(1.0, vec![marked(1), marked(2), Event::Failed(lost)]);
    // Another one asks for something else first.
    assert_eq!(source.position(), Duration::ZERO);
    let slot = keep(async move {
        let mut read = Vec::new();
        while let Some(mark) = source.next_mark().await {
            read.push(mark.mark);
        }
        read
    });
    assert_eq!(slot.take().unwrap(), [1, 2]);
}

#[test]
fn each_mark_goes_to_one_of_those_who_wait_in_their_order() {
    let source = source(8_000);
    let waiting = |source: &Rc<AudioSource>| {
        let source = source.clone();
        keep(async move { source.next_mark().await.map(|mark| mark.mark) })
    };
    let (first, second, given_up) = (waiting(&source), waiting(&source), source.clone());
    let third =
        keep(async move { crate::time::timeout(Duration::from_millis(5), given_up.next_mark()).await.is_none() });
    native::step(1.0, vec![marked(7)]);
    assert_eq!((first.take(), second.take()), (Some(Some(7)), None));
    native::step(10.0, Vec::new());
    assert_eq!(third.take(), Some(true));
    native::step(11.0, vec![marked(8)]);
    assert_eq!(second.take(), Some(Some(8)));
}

#[test]
fn writer_of_fractions_of_a_millisecond_does_not_wait_for_nothing() {
    let source = source(12_000);
    let writer = source.clone();
    let slot = keep(async move {
        // The sum of 120 of them is a little more than a second, by the rounding of floats.
        for _ in 0..121 {
            writer.capture_frame(&[0; 100]).await.unwrap();
        }
    });
    native::step(0.0, vec![playout(PlayoutState::Playing, 0.0, 0.0)]);
    assert!(slot.borrow().is_none());
    // The host's timer counts whole milliseconds. Under virtual time it is all that makes time pass.
    let mut now = 0.0;
    while slot.borrow().is_none() {
        let wait = (crate::time::next_due().unwrap() - now).ceil();
        assert!(wait > 0.0, "the step at {now} ms waits for nothing");
        now += wait;
        native::step(now, Vec::new());
    }
}

#[test]
fn bytes_may_be_cut_within_a_sample() {
    let source = source(8_000);
    let writer = source.clone();
    let slot = keep(async move {
        for part in [&[1][..], &[2, 3, 4], &[], &[5], &[6, 7]] {
            writer.capture_bytes(part).await.unwrap();
        }
        // What is cleared, or followed by whole samples, is not completed.
        writer.clear_queue();
        writer.capture_bytes(&[8, 9, 10]).await.unwrap();
        writer.capture_frame(&[11]).await.unwrap();
        writer.capture_bytes(&[12, 13]).await.unwrap();
    });
    slot.take().unwrap();
    let written = native::take_calls().into_iter().filter_map(|call| match call {
        Call::AudioWrite(1, pcm) => Some(pcm),
        _ => None,
    });
    assert_eq!(written.collect::<Vec<_>>(), [vec![1, 2, 3, 4], vec![5, 6], vec![8, 9], vec![11, 0], vec![12, 13]]);
    assert_eq!(source.queued(), Duration::from_micros(375));
}

#[test]
fn any_rate_has_parts() {
    let source = source(u32::MAX);
    let writer = source.clone();
    let slot = keep(async move { writer.capture_frame(&[0; 100]).await });
    slot.take().unwrap().unwrap();
}

#[test]
fn closed_track_ends_when_everything_is_played() {
    let source = Rc::into_inner(source(8_000)).unwrap();
    let slot = keep(source.close());
    assert!(matches!(native::take_calls()[..], [Call::AudioClose(1)]));
    native::step(1.0, vec![Event::Done(Completion { id: 1, value: String::new() })]);
    slot.take().unwrap().unwrap();
    assert!(native::take_calls().is_empty() && native::open_ids() == 0);
}

/// The methods of the context are used by agents: that they are there is enough.
#[allow(dead_code, reason = "compiled, not run")]
fn context(ctx: &JobContext) {
    drop(ctx.subscribe_audio("TR", Subscription::default()));
    drop(ctx.follow_audio(&Rule::default(), Subscription::default()));
    drop(ctx.publish_audio(&Publication::default()));
}

//! One track that the agent hears: the sound of a person as events, frame by frame. Pure; the time is an argument.
//!
//! While the person says nothing no frame comes, as from a client that sends no silence.
//!
//! Bounds: [`PENDING_BYTES_MAX`] of sound wait while the agent holds the track or has no id for it; the oldest is dropped, and the next
//! frame tells it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::Delivery;
use wasm_worker_core::room::audio::options::{HeardOptions, PENDING_BYTES_MAX};

use super::speaker::{Resamplers, Speaker};
use super::voice::{Change, Detector};
use crate::guest::bindings::wasm_worker::agent::events::{AudioFrame, AudioLevel, Event, Voice};
use crate::sound::{bytes_of, level, samples_in};

/// The time for which a level is taken to find voice.
const PIECE: Duration = Duration::from_millis(10);

/// A frame, and its time.
type Frame = (Instant, Vec<i16>);

/// How far a track is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Heard,
    /// Its last event waits or was told.
    Over,
}

/// One track that the agent hears.
pub(super) struct Heard {
    /// The sid of the track.
    pub(super) sid: String,
    /// The id of the contract; none for a followed track whose first event is not delivered.
    pub(super) id: Option<u32>,
    options: HeardOptions,
    resamplers: Resamplers,
    detector: Detector,
    /// The beginning of the next frame.
    next: Instant,
    /// Sound from before voice that may begin.
    before: VecDeque<Frame>,
    /// The end of the sound that follows voice.
    until: Option<Instant>,
    next_level: Instant,
    is_held: bool,
    phase: Phase,
    /// Events that wait, each with its time.
    waiting: VecDeque<(Instant, Event)>,
    /// Bytes of sound among them.
    waiting_bytes: usize,
    /// Sound that was dropped and not told.
    dropped: Duration,
    /// Sound that was given to the agent.
    pub(super) given: Duration,
    /// Sound that was dropped.
    pub(super) lost: Duration,
}

impl Heard {
    /// A track that is heard from now on.
    pub(super) fn new(sid: String, id: Option<u32>, options: HeardOptions, now: Instant) -> Self {
        Self {
            sid,
            id,
            options,
            resamplers: Resamplers::new(options.rate),
            detector: Detector::new(options.thresholds),
            next: now,
            before: VecDeque::new(),
            until: None,
            next_level: now,
            is_held: false,
            phase: Phase::Heard,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            dropped: Duration::ZERO,
            given: Duration::ZERO,
            lost: Duration::ZERO,
        }
    }

    /// Whether it hears the track of this person. One that is over hears no other that comes under the same name.
    pub(super) fn hears(&self, speaker: &Speaker) -> bool {
        self.phase == Phase::Heard && self.sid == speaker.track.sid
    }

    /// Whether a frame is to come: something is said, or may have been the end of voice.
    fn is_active(&self, speaker: &Speaker) -> bool {
        speaker.is_speaking(self.next)
            || self.detector.is_speaking()
            || self.until.is_some_and(|until| until > self.next)
    }

    /// The person begins to say something.
    pub(super) fn begin(&mut self, speaker: &Speaker, now: Instant) {
        if !self.is_active(speaker) {
            self.next = self.next.max(now);
            self.before.clear();
        }
    }

    /// The end of the next frame; none while nothing is said.
    pub(super) fn wake_at(&self, speaker: &Speaker) -> Option<Instant> {
        self.is_active(speaker).then(|| self.next + self.options.frame)
    }

    /// Make the frames that are over by now.
    pub(super) fn advance(&mut self, speaker: &Speaker, now: Instant) {
        while self.is_active(speaker) && self.next + self.options.frame <= now {
            let at = self.next;
            let sound = speaker.sound(at, self.options.frame, &mut self.resamplers);
            self.next += self.options.frame;
            self.frame(at, sound);
        }
    }

    fn frame(&mut self, at: Instant, sound: Vec<i16>) {
        if self.options.needs_detector() {
            let mut from = at;
            for piece in sound.chunks(samples_in(PIECE, self.options.rate).max(1)) {
                let until = from + self.resamplers.duration(piece.len());
                let change = self.detector.hear(from, until, level(piece));
                self.change(change);
                from = until;
            }
            self.tell_level(at, &sound);
        }
        match self.options.frames {
            Delivery::None => {}
            Delivery::All => self.give((at, sound)),
            Delivery::Voiced => self.gate((at, sound)),
        }
    }

    /// Deliver a frame if there is voice in it or near it, else keep it for a while.
    fn gate(&mut self, frame: Frame) {
        let kept = self.options.before + self.options.thresholds.min_voice;
        if self.is_open(frame.0) {
            std::mem::take(&mut self.before).into_iter().for_each(|frame| self.give(frame));
            return self.give(frame);
        }
        self.before.push_back(frame);
        while self.before.front().is_some_and(|(at, _)| *at + kept < self.next) {
            self.before.pop_front();
        }
    }

    /// Whether a frame is delivered, where only voice is: up to some time after the last voice.
    fn is_open(&mut self, at: Instant) -> bool {
        if self.detector.is_speaking() {
            let last = self.detector.pauses_since().unwrap_or(self.next);
            self.until = Some(last + self.options.after);
        }
        self.until.is_some_and(|until| at < until)
    }

    fn change(&mut self, change: Option<Change>) {
        let (at, voice): (_, fn(Voice) -> Event) = match change {
            Some(Change::Began(at)) => (at, Event::VoiceStarted),
            Some(Change::Ended(at)) => {
                self.until = (self.options.frames == Delivery::Voiced).then(|| at + self.options.after);
                (at, Event::VoiceEnded)
            }
            None => return,
        };
        if self.options.tells_voice {
            self.waiting.push_back((at, voice(Voice { id: 0, at_ms: 0.0 })));
        }
    }

    fn tell_level(&mut self, at: Instant, sound: &[i16]) {
        if let Some(every) = self.options.level_every
            && self.next >= self.next_level
        {
            let level = level(sound);
            let voice = Detector::probability(level);
            self.waiting.push_back((at, Event::AudioLevel(AudioLevel { id: 0, at_ms: 0.0, level, voice })));
            self.next_level = self.next + every;
        }
    }

    fn give(&mut self, (at, sound): Frame) {
        let pcm = bytes_of(&sound);
        self.waiting_bytes += pcm.len();
        let frame = AudioFrame { id: 0, at_ms: 0.0, concealed_ms: 0, dropped_ms: 0, pcm };
        self.waiting.push_back((at, Event::Audio(frame)));
        while self.waiting_bytes > PENDING_BYTES_MAX {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let oldest = self.waiting.iter().position(|(_, event)| matches!(event, Event::Audio(_)));
        if let Some((_, Event::Audio(frame))) = oldest.and_then(|at| self.waiting.remove(at)) {
            self.waiting_bytes -= frame.pcm.len();
            self.lose(&frame);
        }
    }

    /// A frame that was taken finds no place.
    pub(super) fn take_back(&mut self, frame: &AudioFrame) {
        self.given = self.given.saturating_sub(self.resamplers.duration(frame.pcm.len() / 2));
        self.lose(frame);
    }

    fn lose(&mut self, frame: &AudioFrame) {
        let time = self.resamplers.duration(frame.pcm.len() / 2);
        self.dropped += time + Duration::from_millis(frame.dropped_ms.into());
        self.lost += time;
    }

    /// When the last event was due, where it can be told by now and was not.
    pub(super) fn over_since(&self) -> Option<Instant> {
        let may_be_told = self.phase == Phase::Over && self.id.is_some() && !self.is_held;
        self.waiting.back().filter(|_| may_be_told).map(|(at, _)| *at)
    }

    /// Pause or continue.
    pub(super) fn hold(&mut self, held: bool) {
        self.is_held = held;
    }

    /// The person or the room is gone: voice ends, and `audio-ended` is the last event.
    pub(super) fn end(&mut self, now: Instant) {
        let change = self.detector.stop(now);
        self.change(change);
        self.phase = Phase::Over;
        self.waiting.push_back((now, Event::AudioEnded(0)));
    }

    /// The next event that the agent may be given, and its time.
    pub(super) fn next_event(&mut self) -> Option<(Instant, Event)> {
        let id = self.id.filter(|_| !self.is_held)?;
        let (at, mut event) = self.waiting.pop_front()?;
        match &mut event {
            Event::Audio(frame) => {
                let dropped = std::mem::take(&mut self.dropped).as_millis();
                (frame.id, frame.dropped_ms) = (id, u32::try_from(dropped).unwrap_or(u32::MAX));
                self.waiting_bytes -= frame.pcm.len();
                self.given += self.resamplers.duration(frame.pcm.len() / 2);
            }
            Event::AudioLevel(level) => level.id = id,
            Event::VoiceStarted(voice) | Event::VoiceEnded(voice) => voice.id = id,
            Event::AudioEnded(of) => *of = id,
            _ => {}
        }
        Some((at, event))
    }

    /// Bytes of sound that wait.
    pub(super) fn bytes_waiting(&self) -> usize {
        self.waiting_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasm_worker_core::room::audio::Subscription;

    use super::*;
    use crate::guest::events::name_of;
    use crate::sound::{Sound, sine};

    struct Test {
        began: Instant,
        ann: Speaker,
        heard: Heard,
    }

    fn options() -> Subscription {
        let frame = Duration::from_millis(20);
        Subscription { rate: 8_000, frame, detect_voice: true, ..Subscription::default() }
    }

    impl Test {
        /// Ann says 440 Hz for this time, at once.
        fn new(options: Subscription, time: Duration) -> Self {
            let (began, mut ann) = (Instant::now(), Speaker::new("ann", true));
            let mut heard = Heard::new("TR_ann".into(), Some(7), HeardOptions::new(&options).unwrap(), began);
            heard.begin(&ann, began);
            ann.say(Arc::new(Sound { rate: 16_000, samples: sine(440.0, 16_000, time) }), began);
            Self { began, ann, heard }
        }

        /// Let the time pass, and return the events with the time at which each came and its own.
        fn events(&mut self) -> Vec<(u128, u128, Event)> {
            let mut events = Vec::new();
            while let Some(now) = self.heard.wake_at(&self.ann) {
                self.heard.advance(&self.ann, now);
                while let Some((at, event)) = self.heard.next_event() {
                    events.push(((now - self.began).as_millis(), (at - self.began).as_millis(), event));
                }
            }
            events
        }
    }

    fn frames(events: &[(u128, u128, Event)]) -> Vec<(u128, usize)> {
        let frames = events.iter().filter_map(|(_, at, event)| match event {
            Event::Audio(frame) => Some((*at, frame.pcm.len())),
            _ => None,
        });
        frames.collect()
    }

    fn others(events: &[(u128, u128, Event)]) -> Vec<(u128, u128, &'static str)> {
        let others = events.iter().filter(|(_, _, event)| !matches!(event, Event::Audio(_)));
        others.map(|(now, at, event)| (*now, *at, name_of(event))).collect()
    }

    #[test]
    fn frames_come_at_their_time_and_voice_is_told() {
        let mut test = Test::new(options(), Duration::from_millis(105));
        let events = test.events();
        let frames = frames(&events);
        assert_eq!(frames[..3], [(0, 320), (20, 320), (40, 320)]);
        assert_eq!(others(&events), [(60, 0, "voice-started"), (660, 110, "voice-ended")]);
        // Silence comes until the end of voice is known.
        assert_eq!(frames.len(), 33);
        assert_eq!(test.heard.given, Duration::from_millis(660));
    }

    #[test]
    fn voiced_sound_has_some_before_and_after_the_voice() {
        let frames_option = Delivery::Voiced;
        let times = (Duration::from_millis(40), Duration::from_millis(60), Duration::from_millis(20));
        let asked =
            Subscription { frames: frames_option, before: times.0, after: times.1, min_silence: times.2, ..options() };
        let mut test = Test::new(asked, Duration::from_millis(200));
        let events = test.events();
        assert_eq!(others(&events), [(60, 0, "voice-started"), (220, 200, "voice-ended")]);
        let frames = frames(&events);
        assert_eq!((frames.first(), frames.last()), (Some(&(0, 320)), Some(&(240, 320))));
        // Silence is not delivered until the end of voice is certain.
        let mut test = Test::new(Subscription { min_silence: Duration::ZERO, ..asked }, Duration::from_millis(200));
        let events = test.events();
        assert_eq!(others(&events).last(), Some(&(760, 200, "voice-ended")));
        assert_eq!(self::frames(&events).last(), Some(&(240, 320)));
        let silent = Subscription { frames: Delivery::None, ..options() };
        let mut test = Test::new(silent, Duration::from_millis(200));
        assert_eq!(self::frames(&test.events()), []);
    }

    #[test]
    fn a_frame_has_the_length_that_is_asked_for_and_levels_their_interval() {
        let millis = Duration::from_millis;
        let asked = Subscription { frame: millis(100), level_every: millis(200), detect_voice: false, ..options() };
        let events = Test::new(asked, millis(350)).events();
        assert_eq!(frames(&events)[..4], [(0, 1_600), (100, 1_600), (200, 1_600), (300, 1_600)]);
        let levels = others(&events);
        assert_eq!(levels[..2], [(100, 0, "audio-level"), (300, 200, "audio-level")]);
    }

    #[test]
    fn a_held_track_keeps_a_bounded_amount_of_sound_and_tells_what_is_dropped() {
        let mut test = Test::new(Subscription { detect_voice: false, ..options() }, Duration::from_secs(20));
        test.heard.hold(true);
        assert!(test.events().is_empty());
        assert!(test.heard.bytes_waiting() <= PENDING_BYTES_MAX);
        test.heard.hold(false);
        let Some((at, Event::Audio(first))) = test.heard.next_event() else { panic!() };
        let kept = Duration::from_millis(20) * u32::try_from(PENDING_BYTES_MAX / 320).unwrap();
        let dropped = Duration::from_secs(20) - kept;
        assert_eq!((at - test.began, u128::from(first.dropped_ms)), (dropped, dropped.as_millis()));
        let Some((_, Event::Audio(second))) = test.heard.next_event() else { panic!() };
        assert_eq!((second.dropped_ms, test.heard.lost), (0, dropped));
    }

    #[test]
    fn an_end_ends_voice_and_is_the_last_event() {
        let mut test = Test::new(options(), Duration::from_secs(9));
        test.heard.advance(&test.ann, test.began + Duration::from_millis(200));
        test.heard.end(test.began + Duration::from_millis(205));
        let events: Vec<_> = std::iter::from_fn(|| test.heard.next_event()).map(|(_, event)| name_of(&event)).collect();
        assert_eq!(events[events.len() - 2..], ["voice-ended", "audio-ended"]);
    }
}

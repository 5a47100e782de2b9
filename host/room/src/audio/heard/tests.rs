//! A heard track in virtual time, with real sound.

use wasm_worker_core::room::audio::{AudioFrame, RATES};

use super::super::codec::opus;
use super::super::signals::{power_at, sine, speech};
use super::*;

const ID: HeardId = HeardId::Asked(7);
const FRAME: Duration = Duration::from_millis(20);
const MS: Duration = Duration::from_millis(1);

/// The packets of a sound at 48 kHz.
fn packets(samples: &[i16]) -> Vec<Vec<u8>> {
    let mut encoder = opus(48_000, 32_000).unwrap();
    samples.chunks_exact(960).map(|frame| encoder.encode(frame).unwrap()).collect()
}

/// The packets of a second of speech.
fn second_of_speech() -> &'static [Vec<u8>] {
    static PACKETS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    PACKETS.get_or_init(|| packets(&speech(48_000, 1.0)))
}

/// A track that is heard, and what came out of it.
struct Ears {
    heard: Heard,
    start: Instant,
    now: Instant,
    events: Vec<AudioEvent>,
}

impl Ears {
    fn new(options: &Subscription) -> Self {
        let start = Instant::now();
        Self { heard: Heard::new(ID, options, start).unwrap(), start, now: start, events: Vec::new() }
    }

    /// The packets of a sound come in time, from this one on, but for those that do not.
    fn hear(&mut self, packets: &[Vec<u8>], first: u64, comes: impl Fn(u64) -> bool) {
        let mut contiguous = true;
        for (payload, i) in packets.iter().zip(first..) {
            if comes(i) {
                self.pass_to(self.start + FRAME * (i as u32 + 1));
                self.heard.receive(Packet { payload, time: 960 * i, contiguous }, self.now);
                self.collect();
            }
            contiguous = comes(i);
        }
    }

    /// Time passes, and everything happens that is due.
    fn pass_to(&mut self, end: Instant) {
        while let Some(due) = self.heard.wake_at().filter(|due| *due <= end) {
            assert!(due >= self.now, "something was due in the past");
            self.now = due;
            self.heard.advance(due);
            assert!(self.heard.wake_at().is_none_or(|next| next > due), "something is due for ever");
            self.collect();
        }
        self.now = end;
        self.heard.advance(end);
        self.collect();
    }

    fn collect(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.heard.next_event()));
    }

    fn frames(&self) -> Vec<&AudioFrame> {
        self.events
            .iter()
            .filter_map(|event| if let AudioEvent::Frame(frame) = event { Some(frame) } else { None })
            .collect()
    }

    fn samples(&self) -> Vec<i16> {
        let pcm = self.frames().into_iter().flat_map(|frame| frame.pcm.as_chunks::<2>().0);
        pcm.map(|sample| i16::from_le_bytes(*sample)).collect()
    }

    /// The samples by the time at which they were heard; where none were, silence.
    fn timeline(&self) -> Vec<i16> {
        let mut timeline = Vec::new();
        for frame in self.frames() {
            let at = samples_in(Instant::from_std(frame.at) - self.start, self.heard.options.rate);
            let samples = frame.pcm.as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample));
            assert!(timeline.len() <= at, "sound is told twice");
            timeline.resize(at, 0);
            timeline.extend(samples);
        }
        timeline
    }

    /// When each frame of this many milliseconds was heard, in milliseconds. Frames without a gap may come in one event.
    fn times(&self, frame: i64) -> Vec<i64> {
        let bytes = frame as usize * self.heard.options.rate as usize / 500;
        let times = |event: &&AudioFrame| {
            let at = self.ms(event.at);
            (0..(event.pcm.len() / bytes) as i64).map(move |i| at + i * frame)
        };
        self.frames().iter().flat_map(times).collect()
    }

    /// Time since the beginning, in milliseconds.
    fn ms(&self, at: impl Into<Instant>) -> i64 {
        (at.into() - self.start).as_micros() as i64 / 1_000
    }

    /// The changes of voice, in milliseconds.
    fn voice(&self) -> Vec<(bool, i64)> {
        let change = |event: &AudioEvent| match event {
            AudioEvent::VoiceStarted { at, .. } => Some((true, self.ms(*at))),
            AudioEvent::VoiceEnded { at, .. } => Some((false, self.ms(*at))),
            _ => None,
        };
        self.events.iter().filter_map(change).collect()
    }
}

mod costs;
mod random;
mod sound;
mod voice;

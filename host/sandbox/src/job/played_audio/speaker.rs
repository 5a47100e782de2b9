//! A person who speaks: a track, and what is said on it. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::people::{Track, TrackKind};

use crate::sound::resample::Resampler;
use crate::sound::{Sound, duration_of, samples_in};

/// A person with a microphone, which sends nothing while the person is silent.
#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) track: Track,
    /// Whether it is a person, and no other program.
    pub(super) is_person: bool,
    utterances: VecDeque<Utterance>,
}

/// Something that is said.
#[derive(Debug)]
struct Utterance {
    begin: Instant,
    end: Instant,
    sound: Arc<Sound>,
}

impl Speaker {
    /// A person who has said nothing yet.
    pub(super) fn new(identity: &str, is_person: bool) -> Self {
        let track = Track {
            sid: format!("TR_{identity}"),
            participant: identity.to_owned(),
            name: "microphone".into(),
            kind: TrackKind::Audio,
            source: "microphone",
            mime_type: "audio/opus".into(),
            attributes: Vec::new(),
            muted: false,
            encrypted: false,
        };
        Self { track, is_person, utterances: VecDeque::new() }
    }

    /// Say something, at once or after what is being said.
    pub(super) fn say(&mut self, sound: Arc<Sound>, now: Instant) {
        let begin = self.utterances.back().map_or(now, |last| last.end.max(now));
        self.utterances.push_back(Utterance { begin, end: begin + sound.duration(), sound });
    }

    /// Forget what was said before a time.
    pub(super) fn forget(&mut self, before: Instant) {
        while self.utterances.front().is_some_and(|first| first.end < before) {
            self.utterances.pop_front();
        }
    }

    /// Whether something is said from this time on.
    pub(super) fn is_speaking(&self, from: Instant) -> bool {
        self.utterances.back().is_some_and(|last| last.end > from)
    }

    /// The end of the last thing that is said.
    pub(super) fn end(&self) -> Option<Instant> {
        self.utterances.back().map(|last| last.end)
    }

    /// The sound from a time on, at this rate.
    pub(super) fn sound(&self, from: Instant, time: Duration, resamplers: &mut Resamplers) -> Vec<i16> {
        let mut sound = vec![0; samples_in(time, resamplers.to)];
        for utterance in &self.utterances {
            if utterance.end <= from || utterance.begin >= from + time {
                continue;
            }
            let skipped = samples_in(from.saturating_duration_since(utterance.begin), resamplers.to);
            let before = samples_in(utterance.begin.saturating_duration_since(from), resamplers.to);
            let resampler = resamplers.from(utterance.sound.rate);
            let end = resampler.length(utterance.sound.samples.len());
            let count = sound.len().saturating_sub(before).min(end.saturating_sub(skipped));
            let part = resampler.part(&utterance.sound.samples, skipped..skipped + count);
            sound.iter_mut().skip(before).zip(part).for_each(|(place, sample)| *place = sample);
        }
        sound
    }
}

/// From the rates of files to one rate.
#[derive(Debug)]
pub(super) struct Resamplers {
    to: u32,
    known: Vec<(u32, Resampler)>,
}

impl Resamplers {
    pub(super) fn new(to: u32) -> Self {
        Self { to, known: Vec::new() }
    }

    /// The time of so many samples.
    pub(super) fn duration(&self, samples: usize) -> Duration {
        duration_of(samples, self.to)
    }

    fn from(&mut self, from: u32) -> &Resampler {
        let at = self.known.iter().position(|(rate, _)| *rate == from).unwrap_or_else(|| {
            self.known.push((from, Resampler::new(from, self.to)));
            self.known.len() - 1
        });
        // It is there: it was found or added.
        #[expect(clippy::indexing_slicing, reason = "a position of the list")]
        &self.known[at].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_has_its_time_and_silence_around_it() {
        let (mut ann, now) = (Speaker::new("ann", true), Instant::now());
        let millis = Duration::from_millis;
        ann.say(Arc::new(Sound { rate: 8_000, samples: vec![5; 80] }), now + millis(10));
        // It is said after the first, although it is asked for before its end.
        ann.say(Arc::new(Sound { rate: 8_000, samples: vec![7; 80] }), now + millis(12));
        let mut resamplers = Resamplers::new(8_000);
        let sound = ann.sound(now, millis(40), &mut resamplers);
        assert_eq!(sound, [[0; 80], [5; 80], [7; 80], [0; 80]].concat());
        assert_eq!(ann.sound(now + millis(15), millis(10), &mut resamplers), [[5; 40], [7; 40]].concat());
        assert!(ann.is_speaking(now + millis(29)) && !ann.is_speaking(now + millis(30)));
        ann.forget(now + millis(21));
        assert_eq!((ann.utterances.len(), ann.end()), (1, Some(now + millis(30))));
    }
}

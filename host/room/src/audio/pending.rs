//! Events of a heard track that wait for the agent. Pure.
//!
//! What is dropped, and told in the next frame, is the oldest sound. Sound without a gap is delivered together, so that an agent that is
//! late has few events to handle. Levels that are not taken are dropped, the oldest first. Changes of voice are joined: where they are
//! too many, a pause that nobody waited for is left out.

use std::collections::VecDeque;
use std::time::Duration;

use wasm_worker_core::room::audio::{AudioEvent, AudioFrame};

use super::block::time_of;
use super::frames::Ready;

/// Most bytes of one event that is made of several.
const JOINED_BYTES_MAX: usize = 16 << 10;
/// Most levels that wait, and most changes of voice.
const EACH_MAX: usize = 64;

/// Events that wait, oldest first.
#[derive(Debug)]
pub(super) struct Pending {
    rate: u32,
    bytes_max: usize,
    events: VecDeque<AudioEvent>,
    /// Memory of the frames.
    bytes: usize,
    /// Sound that was dropped since the last frame that waits or was taken.
    dropped: Duration,
    /// All sound that was dropped.
    dropped_ever: Duration,
    levels: usize,
    voices: usize,
}

impl Pending {
    /// No events, and room for so many bytes of frames.
    pub(super) const fn new(rate: u32, bytes_max: usize) -> Self {
        let events = VecDeque::new();
        let (dropped, dropped_ever) = (Duration::ZERO, Duration::ZERO);
        Self { rate, bytes_max, events, bytes: 0, dropped, dropped_ever, levels: 0, voices: 0 }
    }

    /// Add sound.
    pub(super) fn push(&mut self, Ready { mut frame, follows }: Ready) {
        frame.dropped += std::mem::take(&mut self.dropped);
        let bytes = frame.pcm.len();
        match self.events.back_mut() {
            Some(AudioEvent::Frame(last))
                if follows && frame.dropped.is_zero() && last.pcm.len() + bytes <= JOINED_BYTES_MAX =>
            {
                last.pcm.append(&mut frame.pcm);
                last.concealed += frame.concealed;
                self.bytes += bytes;
            }
            _ => {
                self.bytes += cost(&frame);
                self.events.push_back(AudioEvent::Frame(frame));
            }
        }
        while self.bytes > self.bytes_max {
            self.drop_oldest();
        }
    }

    /// Add a level.
    pub(super) fn push_level(&mut self, level: AudioEvent) {
        if self.levels == EACH_MAX {
            self.remove_first(|event| matches!(event, AudioEvent::Level { .. }));
        } else {
            self.levels += 1;
        }
        self.events.push_back(level);
    }

    /// Add a change of voice.
    pub(super) fn push_voice(&mut self, change: AudioEvent) {
        self.voices += 1;
        self.events.push_back(change);
        if self.voices > EACH_MAX {
            let first_end = self.remove_first(|event| matches!(event, AudioEvent::VoiceEnded { .. }));
            let at = first_end.unwrap_or_default();
            let is_start = |event: &AudioEvent| matches!(event, AudioEvent::VoiceStarted { .. });
            if let Some(start) = self.events.range(at..).position(is_start) {
                self.events.remove(at + start);
            }
            self.voices -= 2;
        }
    }

    /// Add the last event.
    pub(super) fn push_end(&mut self, end: AudioEvent) {
        self.events.push_back(end);
    }

    /// Sound is not delivered at all.
    pub(super) fn drop_sound(&mut self, length: Duration) {
        self.dropped += length;
        self.dropped_ever += length;
    }

    /// The next event.
    pub(super) fn pop(&mut self) -> Option<AudioEvent> {
        let event = self.events.pop_front()?;
        match &event {
            AudioEvent::Frame(frame) => self.bytes -= cost(frame),
            AudioEvent::Level { .. } => self.levels -= 1,
            AudioEvent::VoiceStarted { .. } | AudioEvent::VoiceEnded { .. } => self.voices -= 1,
            AudioEvent::Started { .. }
            | AudioEvent::Ended { .. }
            | AudioEvent::Published { .. }
            | AudioEvent::Subscribed { .. }
            | AudioEvent::Playout { .. }
            | AudioEvent::Marked { .. } => {}
        }
        Some(event)
    }

    /// Memory of the frames.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// All sound that was dropped.
    pub(super) const fn dropped_ever(&self) -> Duration {
        self.dropped_ever
    }

    fn drop_oldest(&mut self) {
        let Some(at) = self.events.iter().position(|event| matches!(event, AudioEvent::Frame(_))) else { return };
        let Some(AudioEvent::Frame(frame)) = self.events.remove(at) else { return };
        self.bytes -= cost(&frame);
        let length = time_of(frame.pcm.len() / size_of::<i16>(), self.rate);
        self.dropped_ever += length;
        let dropped = frame.dropped + length;
        let next = self.events.iter_mut().find_map(|event| match event {
            AudioEvent::Frame(frame) => Some(&mut frame.dropped),
            _ => None,
        });
        *next.unwrap_or(&mut self.dropped) += dropped;
    }

    /// Remove the first event of a kind. The place that it had.
    fn remove_first(&mut self, is_it: impl Fn(&AudioEvent) -> bool) -> Option<usize> {
        let at = self.events.iter().position(is_it)?;
        self.events.remove(at);
        Some(at)
    }
}

fn cost(frame: &AudioFrame) -> usize {
    size_of::<AudioEvent>() + frame.pcm.len()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use wasm_worker_core::room::audio::HeardId;

    use super::*;

    const ID: HeardId = HeardId::Asked(1);
    const MS: Duration = Duration::from_millis(1);

    fn ready(start: Instant, ms: u32, follows: bool) -> Ready {
        let frame = AudioFrame {
            id: ID,
            at: (start + MS * ms).into_std(),
            concealed: MS,
            dropped: Duration::ZERO,
            pcm: vec![0; 20 * 16],
        };
        Ready { frame, follows }
    }

    #[test]
    fn the_oldest_sound_is_dropped_and_told() {
        let start = Instant::now();
        let mut pending = Pending::new(8_000, 50_000);
        // Ten seconds are 160,000 bytes.
        for i in 0..500 {
            pending.push(ready(start, i * 20, i > 0));
            assert!(pending.bytes() <= 50_000);
        }
        let Some(AudioEvent::Frame(first)) = pending.pop() else { panic!("no frame") };
        assert_eq!(first.at, (start + first.dropped).into_std());
        assert_eq!(first.dropped, pending.dropped_ever());
        assert!(first.dropped > MS * 6_000 && first.pcm.len() > JOINED_BYTES_MAX - 400);
        let rest: Vec<AudioEvent> = std::iter::from_fn(|| pending.pop()).collect();
        let bytes: usize =
            rest.iter().map(|event| if let AudioEvent::Frame(frame) = event { frame.pcm.len() } else { 0 }).sum();
        assert_eq!(first.dropped + MS * ((first.pcm.len() + bytes) / 16) as u32, MS * 10_000);
        assert!(rest.len() < 5 && pending.bytes() == 0);
        assert_eq!(first.concealed, MS * (first.pcm.len() / 320) as u32);
    }

    #[test]
    fn sound_of_which_nothing_waits_is_told_in_the_next_frame() {
        let start = Instant::now();
        let mut pending = Pending::new(8_000, 100);
        pending.push(ready(start, 0, false));
        assert!(pending.pop().is_none());
        pending.drop_sound(MS * 30);
        assert_eq!(pending.dropped_ever(), MS * 50);
        pending.bytes_max = 50_000;
        pending.push(ready(start, 20, true));
        pending.push(ready(start, 60, false));
        let dropped: Vec<Duration> = std::iter::from_fn(|| pending.pop())
            .map(|event| if let AudioEvent::Frame(frame) = event { frame.dropped } else { panic!("{event:?}") })
            .collect();
        assert_eq!(dropped, [MS * 50, Duration::ZERO]);
    }

    #[test]
    fn levels_and_voice_are_bounded() {
        let start = Instant::now().into_std();
        let mut pending = Pending::new(8_000, 50_000);
        for i in 0..1_000_u32 {
            let at = start + MS * i;
            pending.push_level(AudioEvent::Level { id: ID, at, level: 0.0, voice: 0.0 });
            pending.push_voice(AudioEvent::VoiceStarted { id: ID, at });
            pending.push_voice(AudioEvent::VoiceEnded { id: ID, at: at + MS / 2 });
        }
        pending.push_end(AudioEvent::Ended { id: ID });
        let events: Vec<AudioEvent> = std::iter::from_fn(|| pending.pop()).collect();
        assert!(events.len() <= 2 * EACH_MAX + 1);
        assert_eq!(events.last(), Some(&AudioEvent::Ended { id: ID }));
        let voice: Vec<_> = events
            .iter()
            .filter(|event| matches!(event, AudioEvent::VoiceStarted { .. } | AudioEvent::VoiceEnded { .. }))
            .collect();
        let alternates =
            voice.chunks(2).all(|two| matches!(two, [AudioEvent::VoiceStarted { .. }, AudioEvent::VoiceEnded { .. }]));
        assert!(alternates && voice.len() >= EACH_MAX - 2);
        assert_eq!(voice[0], &AudioEvent::VoiceStarted { id: ID, at: start });
        assert_eq!(voice.last(), Some(&&AudioEvent::VoiceEnded { id: ID, at: start + MS * 999 + MS / 2 }));
        assert_eq!((pending.levels, pending.voices), (0, 0));
    }
}

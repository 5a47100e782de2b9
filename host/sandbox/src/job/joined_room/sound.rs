//! The sound of a room: what the agent has begun, and the frames that wait together. Pure.
//!
//! Frames of one track that are there at once become one event, so that an agent that was busy has few events to handle.
//!
//! Bounds: as many subscriptions and tracks as a job may have open ids; [`MERGED_BYTES_MAX`] bytes of one event.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::{AudioCommand, AudioFrame, HEARD_RATE, HeardId};
use wasm_worker_core::room::command::{IncomingId, OperationId};

/// Most bytes of frames that become one event: two of them fit into a step.
const MERGED_BYTES_MAX: usize = 32 << 10;
/// Bytes of a sample.
const SAMPLE_BYTES: usize = 2;
/// Frames that are this far from each other follow without a gap: their times are rounded.
const SLACK: Duration = Duration::from_micros(500);

/// What the agent has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// It hears a track, or follows tracks, at this rate.
    Heard { rate: u32 },
    /// It has a track of its own.
    Published,
}

/// The sound of one job.
#[derive(Debug, Default)]
pub(super) struct Sound {
    begun: BTreeMap<OperationId, Begun>,
    /// The rates of the tracks that rules follow.
    followed: BTreeMap<IncomingId, u32>,
    /// Frames that are there, in the order in which their tracks came first: one for each track, with those that follow it.
    waiting: Vec<AudioFrame>,
}

impl Sound {
    /// The agent begins something.
    pub(super) fn begin(&mut self, command: &AudioCommand) {
        let begun = match command {
            AudioCommand::Subscribe { id, options, .. } | AudioCommand::Follow { id, options, .. } => {
                let rate = if options.rate == 0 { HEARD_RATE } else { options.rate };
                (*id, Begun::Heard { rate })
            }
            AudioCommand::Publish { id, .. } => (*id, Begun::Published),
            _ => return,
        };
        self.begun.insert(begun.0, begun.1);
    }

    /// A rule follows a track.
    pub(super) fn follow(&mut self, id: IncomingId, rule: OperationId) {
        if let Some(Begun::Heard { rate }) = self.find(rule) {
            self.followed.insert(id, rate);
        }
    }

    /// What the agent has begun by this operation.
    pub(super) fn find(&self, id: OperationId) -> Option<Begun> {
        self.begun.get(&id).copied()
    }

    /// An operation is over.
    pub(super) fn end(&mut self, id: OperationId) {
        self.begun.remove(&id);
    }

    /// A followed track is over.
    pub(super) fn end_followed(&mut self, id: IncomingId) {
        self.followed.remove(&id);
    }

    /// The room is over.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Keep a frame, with those of its track that wait. Those that it does not follow are given back, to be told before it.
    pub(super) fn put(&mut self, frame: AudioFrame) -> Option<AudioFrame> {
        let rate = match frame.id {
            HeardId::Asked(id) => self.find(id).and_then(|begun| match begun {
                Begun::Heard { rate } => Some(rate),
                Begun::Published => None,
            }),
            HeardId::Followed(id) => self.followed.get(&id).copied(),
        };
        match self.waiting.iter_mut().find(|waiting| waiting.id == frame.id) {
            None => {
                self.waiting.push(frame);
                None
            }
            Some(waiting) if rate.is_some_and(|rate| follows(waiting, &frame, rate)) => {
                waiting.concealed += frame.concealed;
                waiting.pcm.extend_from_slice(&frame.pcm);
                None
            }
            Some(waiting) => Some(std::mem::replace(waiting, frame)),
        }
    }

    /// Take what waits.
    pub(super) fn take(&mut self) -> Vec<AudioFrame> {
        std::mem::take(&mut self.waiting)
    }

    /// Whether a frame waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// Whether a frame goes on where the earlier ones end, and one event may have them all.
fn follows(earlier: &AudioFrame, frame: &AudioFrame, rate: u32) -> bool {
    let (end, at) = (end_of(earlier, rate), Instant::from_std(frame.at));
    let gap = end.saturating_duration_since(at) + at.saturating_duration_since(end);
    frame.dropped.is_zero() && gap <= SLACK && earlier.pcm.len() + frame.pcm.len() <= MERGED_BYTES_MAX
}

fn end_of(frame: &AudioFrame, rate: u32) -> Instant {
    let samples = u64::try_from(frame.pcm.len() / SAMPLE_BYTES).unwrap_or(u64::MAX);
    Instant::from_std(frame.at) + Duration::from_nanos(samples.saturating_mul(1_000_000_000) / u64::from(rate.max(1)))
}

#[cfg(test)]
mod tests {
    use wasm_worker_core::room::audio::Subscription;

    use super::*;

    const TRACK: HeardId = HeardId::Asked(1);

    fn sound() -> Sound {
        let mut sound = Sound::default();
        let options = Subscription { rate: 8_000, ..Subscription::default() };
        sound.begin(&AudioCommand::Subscribe { id: 1, track_sid: "TR".into(), options });
        sound.begin(&AudioCommand::Follow { id: 2, rule: Default::default(), options: Subscription::default() });
        sound.follow(IncomingId(5), 2);
        sound
    }

    /// 20 ms at 8 kHz, or less at another rate.
    fn frame(id: HeardId, at: Instant) -> AudioFrame {
        AudioFrame {
            id,
            at: at.into_std(),
            concealed: Duration::from_millis(1),
            dropped: Duration::ZERO,
            pcm: vec![0; 320],
        }
    }

    #[test]
    fn frames_that_follow_each_other_become_one() {
        let (mut sound, at) = (sound(), Instant::now());
        let other = HeardId::Followed(IncomingId(5));
        for millis in [0, 20, 40] {
            assert_eq!(sound.put(frame(TRACK, at + Duration::from_millis(millis))), None);
        }
        assert_eq!(sound.put(frame(other, at)), None);
        let waiting = sound.take();
        let facts: Vec<_> = waiting.iter().map(|frame| (frame.id, frame.at, frame.pcm.len())).collect();
        assert_eq!(facts, [(TRACK, at.into_std(), 960), (other, at.into_std(), 320)]);
        assert_eq!(waiting[0].concealed, Duration::from_millis(3));
        assert!(!sound.is_waiting());
    }

    #[test]
    fn a_gap_and_a_loss_begin_an_event_of_their_own() {
        let (mut sound, at) = (sound(), Instant::now());
        sound.put(frame(TRACK, at));
        let after_a_gap = frame(TRACK, at + Duration::from_millis(30));
        assert_eq!(sound.put(after_a_gap.clone()), Some(frame(TRACK, at)));
        let late = AudioFrame { dropped: Duration::from_millis(5), ..frame(TRACK, at + Duration::from_millis(50)) };
        assert_eq!(sound.put(late.clone()), Some(after_a_gap));
        assert_eq!(sound.take(), [late]);
        // At the rate of the rule 320 bytes are 10 ms.
        let other = |millis| frame(HeardId::Followed(IncomingId(5)), at + Duration::from_millis(millis));
        assert_eq!((sound.put(other(0)), sound.put(other(10))), (None, None));
        assert_eq!(sound.take()[0].pcm.len(), 640);
    }

    #[test]
    fn one_event_has_a_bounded_size() {
        let (mut sound, at) = (sound(), Instant::now());
        let given = (0..1_000).filter_map(|number| sound.put(frame(TRACK, at + Duration::from_millis(20 * number))));
        let sizes: Vec<usize> = given.map(|frame| frame.pcm.len()).collect();
        assert_eq!(sizes, [MERGED_BYTES_MAX / 320 * 320; 9]);
    }
}

//! What listens to the sound of a heard track: voice and levels, and their events. Pure.

use tokio::time::Instant;
use wasm_worker_core::room::audio::AudioEvent;

use super::Heard;
use crate::audio::block::{Block, before, time_of};
use crate::audio::level::{Level, Meter};
use crate::audio::voice::{Change, Detector, HOP_TIME, Voice};

/// What listens to the sound.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) detector: Detector,
    pub(super) voice: Voice,
    pub(super) meter: Option<Meter>,
    /// Whether the publisher muted the track: no voice begins.
    pub(super) is_muted: bool,
}

impl Heard {
    /// Detect voice in a piece of sound, and measure it.
    pub(super) fn listen(&mut self, block: &Block, now: Instant) {
        let Some(mut listener) = self.listener.take() else { return };
        if !block.follows {
            listener.detector.cut();
            self.tell_voice(listener.voice.pass(block.at), now);
        }
        for score in listener.detector.hear(&block.samples, block.end(self.options.rate)) {
            if let Some(meter) = &mut listener.meter {
                meter.score(score.voice);
            }
            if listener.is_muted {
                continue;
            }
            let change = listener.voice.hear(score);
            let since = match change {
                Some(Change::Started(at)) => at,
                Some(Change::Ended(_)) | None => before(score.until, HOP_TIME),
            };
            self.tell_voice(change, now);
            if let (Some(gate), true) = (&mut self.gate, listener.voice.voice_until() == Some(score.until)) {
                gate.voice(since, score.until);
            }
        }
        let length = time_of(block.samples.len(), self.options.rate);
        let level = listener.meter.as_mut().and_then(|meter| meter.hear(&block.samples, length));
        self.tell_level(level, block.at, now);
        self.listener = Some(listener);
    }

    pub(super) fn end_voice(&mut self, now: Instant) {
        let change = self.listener.as_mut().and_then(|listener| listener.voice.end());
        self.tell_voice(change, now);
        if let Some(gate) = &mut self.gate {
            gate.close();
        }
    }

    /// Times of sound may be later than now for a moment, before the clock has corrected a late beginning. Those of events are not.
    pub(super) fn tell_voice(&mut self, change: Option<Change>, now: Instant) {
        let Some(change) = change.filter(|_| self.options.tells_voice) else { return };
        let (Change::Started(at) | Change::Ended(at)) = change;
        self.voice_told = at.min(now).max(self.voice_told);
        let (id, at) = (self.id, self.voice_told.into_std());
        self.pending.push_voice(match change {
            Change::Started(_) => AudioEvent::VoiceStarted { id, at },
            Change::Ended(_) => AudioEvent::VoiceEnded { id, at },
        });
    }

    pub(super) fn tell_level(&mut self, level: Option<Level>, at: Instant, now: Instant) {
        if let Some(Level { level, voice }) = level {
            self.pending.push_level(AudioEvent::Level { id: self.id, at: at.min(now).into_std(), level, voice });
        }
    }
}

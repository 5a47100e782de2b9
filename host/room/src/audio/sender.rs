//! The packets of a published track: encoded only while there is sound, and for a few frames of silence after it. Pure.

use super::codec::{CodecError, Encode};

/// Frames of silence that are sent after sound. The first has the end of the sound, which the encoder delays by 6.5 ms; the others let the
/// listener's decoder fade to silence instead of making up what comes next.
const SILENT_MAX: u32 = 3;

/// The largest sample of silence: 80 dB below full scale. Voices of models do not always write zeros in their pauses.
const SILENCE_MAX: u16 = 3;

/// Frames in, packets out.
#[derive(Debug)]
pub(super) struct Sender {
    encoder: Box<dyn Encode>,
    /// Frames of silence since the last sound.
    silent: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is sent.
    Quiet,
    Talking,
    Muted,
}

/// A packet, and whether it is the first after silence.
pub(super) type Packet = (Vec<u8>, bool);

impl Sender {
    /// A sender of what the encoder makes.
    pub(super) const fn new(encoder: Box<dyn Encode>) -> Self {
        Self { encoder, silent: 0, state: State::Quiet }
    }

    /// Send nothing, or what comes.
    pub(super) const fn set_muted(&mut self, muted: bool) {
        self.state = match (self.state, muted) {
            (_, true) => State::Muted,
            (State::Muted, false) => State::Quiet,
            (state, false) => state,
        };
    }

    /// The packet of a frame, if it is to be sent.
    pub(super) fn send(&mut self, frame: &[i16]) -> Result<Option<Packet>, CodecError> {
        let is_silent = frame.iter().all(|sample| sample.unsigned_abs() <= SILENCE_MAX);
        self.silent = if is_silent { self.silent.saturating_add(1) } else { 0 };
        let sends = match self.state {
            State::Muted => false,
            State::Quiet => !is_silent,
            State::Talking => self.silent <= SILENT_MAX,
        };
        if !sends {
            if self.state == State::Talking {
                self.state = State::Quiet;
            }
            return Ok(None);
        }
        let starts_talk = self.state == State::Quiet;
        self.state = State::Talking;
        Ok(Some((self.encoder.encode(frame)?, starts_talk)))
    }

    /// Whether silence is to be sent, if there is nothing else.
    pub(super) fn wants_silence(&self) -> bool {
        self.state == State::Talking && self.silent < SILENT_MAX
    }

    /// There was nothing to send.
    pub(super) fn pause(&mut self) {
        if self.state == State::Talking {
            self.state = State::Quiet;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::opus;
    use super::*;

    /// Which of some frames are sent, `s` for those that start.
    fn sent(sender: &mut Sender, frames: &str) -> String {
        let frame = |kind| sender.send(&[if kind == '.' { -3 } else { 900 }; 160]).unwrap();
        frames
            .chars()
            .map(frame)
            .map(|packet| packet.map_or('.', |(_, starts)| if starts { 's' } else { 'x' }))
            .collect()
    }

    #[test]
    fn only_sound_is_sent_and_a_little_silence() {
        let mut sender = Sender::new(opus(8_000, 16_000).unwrap());
        assert!(!sender.wants_silence());
        assert_eq!(sent(&mut sender, "..xx..x......xx"), "..sxxxxxxx...sx");
        assert!(sender.wants_silence());
        sender.set_muted(true);
        assert!(!sender.wants_silence());
        assert_eq!(sent(&mut sender, "xx"), "..");
        sender.set_muted(false);
        assert_eq!(sent(&mut sender, "x..."), "sxxx");
        assert!(!sender.wants_silence());
        sender.pause();
        assert_eq!(sent(&mut sender, ".x"), ".s");
    }
}

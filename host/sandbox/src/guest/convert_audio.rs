//! Conversions between the plain data of sound and the records of the contract. Pure.

use std::time::Duration;

use wasm_worker_core::room::audio::{Delivery, PlayoutState, Publication, Rule, Subscription};

use super::bindings::wasm_worker::agent::{audio, events};

impl From<audio::Subscription> for Subscription {
    fn from(options: audio::Subscription) -> Self {
        let audio::Subscription {
            rate,
            frame_ms,
            frames,
            before_ms,
            after_ms,
            detect_voice,
            threshold,
            min_voice_ms,
            min_silence_ms,
            level_ms,
        } = options;
        Self {
            rate,
            frame: time(frame_ms),
            frames: match frames {
                audio::Delivery::All => Delivery::All,
                audio::Delivery::Voiced => Delivery::Voiced,
                audio::Delivery::None => Delivery::None,
            },
            before: time(before_ms),
            after: time(after_ms),
            detect_voice,
            threshold,
            min_voice: time(min_voice_ms),
            min_silence: time(min_silence_ms),
            level_every: time(level_ms),
        }
    }
}

impl From<audio::Rule> for Rule {
    fn from(audio::Rule { participant, source, people }: audio::Rule) -> Self {
        Self { participant, source, people }
    }
}

impl From<audio::Publication> for Publication {
    fn from(audio::Publication { name, source, rate, bits_per_second }: audio::Publication) -> Self {
        Self { name, source, rate, bits_per_second }
    }
}

impl From<PlayoutState> for events::PlayoutState {
    fn from(state: PlayoutState) -> Self {
        match state {
            PlayoutState::Playing => Self::Playing,
            PlayoutState::Drained => Self::Drained,
            PlayoutState::Cleared => Self::Cleared,
            PlayoutState::Held => Self::Held,
        }
    }
}

fn time(millis: u32) -> Duration {
    Duration::from_millis(millis.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_of_a_subscription_stays() {
        let options = audio::Subscription {
            rate: 16_000,
            frame_ms: 60,
            frames: audio::Delivery::Voiced,
            before_ms: 1,
            after_ms: 2,
            detect_voice: true,
            threshold: 0.25,
            min_voice_ms: 3,
            min_silence_ms: 4,
            level_ms: 5,
        };
        let expected = Subscription {
            rate: 16_000,
            frame: time(60),
            frames: Delivery::Voiced,
            before: time(1),
            after: time(2),
            detect_voice: true,
            threshold: 0.25,
            min_voice: time(3),
            min_silence: time(4),
            level_every: time(5),
        };
        assert_eq!(Subscription::from(options), expected);
    }
}

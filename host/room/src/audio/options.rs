//! The options of a heard and of a published track: defaults for what is 0, and limits. Pure.

use std::time::Duration;

use wasm_worker_core::room::audio::{Delivery, HEARD_RATE, PUBLISHED_RATE, Publication, RATES, Subscription};

use super::voice::Thresholds;

/// Default sound of one event. Steps cost the agent more than 20 ms more of delay do.
const FRAME: Duration = Duration::from_millis(50);
/// Range of the sound of one event, by the contract.
const FRAMES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// Default probability of voice above which somebody speaks; this and the next two as in LiveKit's agents.
const THRESHOLD: f64 = 0.5;
/// Default of the shortest voice.
const MIN_VOICE: Duration = Duration::from_millis(50);
/// Default of the silence that ends voice.
const MIN_SILENCE: Duration = Duration::from_millis(550);
/// Default of the sound before and after voice.
const BESIDE_VOICE: Duration = Duration::from_millis(500);
/// Most sound before voice, and longest `min_voice`: both are kept in memory.
const KEPT_MAX: Duration = Duration::from_secs(1);
/// Longest sound after voice, and longest silence that ends it.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Range of the time between levels.
const LEVELS: [Duration; 2] = [Duration::from_millis(20), Duration::from_mins(1)];
/// Default of the bits a second of what is published, as browsers send speech.
const BITS_PER_SECOND: u32 = 32_000;
/// Range of the bits a second: the least of Opus for speech, and what gives mono no more.
const BITS_PER_SECOND_RANGE: [u32; 2] = [6_000, 128_000];

/// How a track is heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HeardOptions {
    /// Samples a second.
    pub(super) rate: u32,
    /// Least sound of one event, and its unit.
    pub(super) frame: Duration,
    pub(super) frames: Delivery,
    /// With [`Delivery::Voiced`]: sound before voice, and after it.
    pub(super) before: Duration,
    pub(super) after: Duration,
    pub(super) tells_voice: bool,
    pub(super) thresholds: Thresholds,
    /// Time between levels, if they are told.
    pub(super) level_every: Option<Duration>,
}

impl HeardOptions {
    /// The options, checked and complete.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn new(given: &Subscription) -> Result<Self, String> {
        let threshold = if given.threshold == 0.0 { THRESHOLD } else { given.threshold };
        if !(0.0..=1.0).contains(&threshold) {
            return Err(format!("`threshold` is {threshold}; a probability from 0 to 1 is wanted"));
        }
        let any = Duration::ZERO;
        #[expect(clippy::cast_possible_truncation, reason = "from 0 to 1")]
        let thresholds = Thresholds {
            voice: threshold as f32,
            min_voice: time("min-voice", given.min_voice, MIN_VOICE, [any, KEPT_MAX])?,
            min_silence: time("min-silence", given.min_silence, MIN_SILENCE, [any, SILENCE_MAX])?,
        };
        let level_every = Some(given.level_every).filter(|every| !every.is_zero());
        Ok(Self {
            rate: rate(given.rate, HEARD_RATE)?,
            frame: time("frame", given.frame, FRAME, FRAMES)?,
            frames: given.frames,
            before: time("before", given.before, BESIDE_VOICE, [any, KEPT_MAX])?,
            after: time("after", given.after, BESIDE_VOICE, [any, SILENCE_MAX])?,
            tells_voice: given.detect_voice,
            thresholds,
            level_every: level_every.map(|every| time("level", every, every, LEVELS)).transpose()?,
        })
    }

    /// Whether anything depends on voice.
    pub(super) fn needs_detector(&self) -> bool {
        self.tells_voice || self.level_every.is_some() || self.frames == Delivery::Voiced
    }

    /// Whether anything is told that depends on the sound.
    pub(super) fn needs_sound(&self) -> bool {
        self.needs_detector() || self.frames != Delivery::None
    }
}

/// How a track is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublishedOptions {
    /// Samples a second.
    pub(super) rate: u32,
    pub(super) bits_per_second: u32,
}

impl PublishedOptions {
    /// The options, checked and complete.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn new(given: &Publication) -> Result<Self, String> {
        let bits_per_second = if given.bits_per_second == 0 { BITS_PER_SECOND } else { given.bits_per_second };
        let [least, most] = BITS_PER_SECOND_RANGE;
        if !(least..=most).contains(&bits_per_second) {
            return Err(format!("`bits-per-second` is {bits_per_second}; from {least} to {most} are possible"));
        }
        Ok(Self { rate: rate(given.rate, PUBLISHED_RATE)?, bits_per_second })
    }
}

fn rate(given: u32, default: u32) -> Result<u32, String> {
    match given {
        0 => Ok(default),
        rate if RATES.contains(&rate) => Ok(rate),
        rate => Err(format!("`rate` is {rate}; 8000, 12000, 16000, 24000 and 48000 samples a second are possible")),
    }
}

fn time(name: &str, given: Duration, default: Duration, [least, most]: [Duration; 2]) -> Result<Duration, String> {
    match given {
        Duration::ZERO => Ok(default),
        given if (least..=most).contains(&given) => Ok(given),
        given => Err(format!(
            "`{name}` is {} ms; from {} to {} are possible",
            given.as_millis(),
            least.as_millis(),
            most.as_millis()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_the_default() {
        let options = HeardOptions::new(&Subscription::default()).unwrap();
        assert_eq!((options.rate, options.frame, options.level_every), (16_000, FRAME, None));
        assert_eq!(options.thresholds, Thresholds { voice: 0.5, min_voice: MIN_VOICE, min_silence: MIN_SILENCE });
        assert!(options.needs_sound() && !options.needs_detector());
        let published = PublishedOptions::new(&Publication::default()).unwrap();
        assert_eq!(published, PublishedOptions { rate: 24_000, bits_per_second: 32_000 });
    }

    #[test]
    fn what_is_not_possible_is_told() {
        let ms = Duration::from_millis;
        let refused = |change: fn(&mut Subscription)| {
            let mut subscription = Subscription::default();
            change(&mut subscription);
            HeardOptions::new(&subscription).unwrap_err()
        };
        assert_eq!(
            refused(|options| options.rate = 44_100),
            "`rate` is 44100; 8000, 12000, 16000, 24000 and 48000 samples a second are possible"
        );
        assert_eq!(
            refused(|options| options.frame = Duration::from_millis(9)),
            "`frame` is 9 ms; from 10 to 1000 are possible"
        );
        assert_eq!(
            refused(|options| options.threshold = 1.5),
            "`threshold` is 1.5; a probability from 0 to 1 is wanted"
        );
        assert!(refused(|options| options.threshold = f64::NAN).starts_with("`threshold` is NaN;"));
        assert!(refused(|options| options.threshold = f64::NEG_INFINITY).starts_with("`threshold` is -inf;"));
        assert!(refused(|options| options.before = Duration::MAX).starts_with("`before` is "));
        assert!(refused(|options| options.after = Duration::from_secs(11)).starts_with("`after` is 11000 ms"));
        assert!(refused(|options| options.min_voice = Duration::from_secs(2)).starts_with("`min-voice` is"));
        assert!(refused(|options| options.min_silence = Duration::from_secs(20)).starts_with("`min-silence` is"));
        assert!(refused(|options| options.level_every = Duration::from_millis(1)).starts_with("`level` is 1 ms"));
        let publication = |rate, bits_per_second| Publication { rate, bits_per_second, ..Publication::default() };
        assert!(PublishedOptions::new(&publication(22_050, 0)).is_err());
        assert_eq!(
            PublishedOptions::new(&publication(0, 1_000_000)).unwrap_err(),
            "`bits-per-second` is 1000000; from 6000 to 128000 are possible"
        );
        let levels = Subscription { level_every: ms(100), ..Subscription::default() };
        assert!(HeardOptions::new(&levels).unwrap().needs_detector());
    }
}

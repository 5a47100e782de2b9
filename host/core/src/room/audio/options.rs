//! The options of a heard and of a published track: defaults for what is 0, and limits. Pure.
//!
//! A room of a server and a room without one take the same, so that an agent that is tested in the one does the same in the other.

use std::time::Duration;

use super::{Delivery, HEARD_RATE, PUBLISHED_RATE, Publication, RATES, Subscription};
use crate::text::clip;

/// Most tracks that an agent hears at once, each with a decoder of its own.
pub const HEARD_MAX: usize = 16;
/// Most rules of an agent.
pub const RULES_MAX: usize = 16;
/// Most tracks of an agent at once, each with an encoder of its own.
pub const OWN_MAX: usize = 4;
/// Most bytes of heard sound that wait for the agent, for each track: the contract allows 256 KiB for each id. The oldest is dropped.
pub const PENDING_BYTES_MAX: usize = 256 << 10;
/// No sound is taken while more than this waits to be played. One write is taken whole, so that a step's bytes may wait beyond it.
pub const WAITING_MAX: Duration = Duration::from_mins(1);
/// Where more waits after a write, the agent is told when less than half of it does.
pub const WRITABLE_AFTER: Duration = Duration::from_secs(1);
/// Most marks of one track that wait.
pub const MARKS_MAX: usize = 4_096;
/// Longest name of a track, in bytes.
const NAME_BYTES_MAX: usize = 256;

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
pub struct HeardOptions {
    /// Samples a second.
    pub rate: u32,
    /// Least sound of one event, and its unit.
    pub frame: Duration,
    /// The frames to deliver.
    pub frames: Delivery,
    /// With [`Delivery::Voiced`]: sound before voice.
    pub before: Duration,
    /// With [`Delivery::Voiced`]: sound after voice.
    pub after: Duration,
    /// Whether the beginning and the end of voice are told.
    pub tells_voice: bool,
    /// What voice is told from silence by.
    pub thresholds: Thresholds,
    /// Time between levels, if they are told.
    pub level_every: Option<Duration>,
}

impl HeardOptions {
    /// The options, checked and complete.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(given: &Subscription) -> Result<Self, String> {
        let threshold = if given.threshold == 0.0 { THRESHOLD } else { given.threshold };
        if !(0.0..=1.0).contains(&threshold) {
            return Err(format!("`threshold` is {threshold}; a probability from 0 to 1 is wanted"));
        }
        let any = Duration::ZERO;
        let thresholds = Thresholds {
            voice: threshold,
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
    pub fn needs_detector(&self) -> bool {
        self.tells_voice || self.level_every.is_some() || self.frames == Delivery::Voiced
    }

    /// Whether anything is told that depends on the sound.
    pub fn needs_sound(&self) -> bool {
        self.needs_detector() || self.frames != Delivery::None
    }
}

/// How a track is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedOptions {
    /// The source of the track.
    pub source: PublishedSource,
    /// Samples a second.
    pub rate: u32,
    /// Bits a second of the encoded sound.
    pub bits_per_second: u32,
}

/// The source of a track of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedSource {
    /// `microphone`, the default.
    Microphone,
    /// `screen-share-audio`
    ScreenShareAudio,
}

impl PublishedSource {
    /// The source of this name.
    ///
    /// # Errors
    /// It is none of an agent.
    fn of(word: &str) -> Result<Self, String> {
        match word {
            "" | "microphone" => Ok(Self::Microphone),
            "screen-share-audio" => Ok(Self::ScreenShareAudio),
            other => {
                let other = clip(other);
                Err(format!("`{other}` is no source of sound: want `microphone` or `screen-share-audio`"))
            }
        }
    }
}

/// A call that is not done. The track ends by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// See [`WAITING_MAX`].
    #[error("more than 60 s of sound waits to be played")]
    TooLarge,
    /// The sound ends within a sample.
    #[error("a sample has two bytes, and the number of bytes is odd")]
    HalfSample,
    /// See [`MARKS_MAX`].
    #[error("4,096 marks wait to be reached")]
    TooManyMarks,
}

impl WriteError {
    /// The code of the contract.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::HalfSample => "invalid",
            Self::TooManyMarks => "limit",
        }
    }
}

/// What voice is told from silence by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Scores above it are voice.
    pub voice: f64,
    /// Voice that is shorter is none.
    pub min_voice: Duration,
    /// Voice ends after this much silence.
    pub min_silence: Duration,
}

impl PublishedOptions {
    /// The options, checked and complete.
    ///
    /// # Errors
    /// The code of the contract, and what is wrong.
    pub fn new(given: &Publication) -> Result<Self, (&'static str, String)> {
        if given.name.len() > NAME_BYTES_MAX {
            return Err(("too-large", format!("the name of a track has at most {NAME_BYTES_MAX} bytes")));
        }
        Self::of_valid_name(given).map_err(|why| ("invalid", why))
    }

    fn of_valid_name(given: &Publication) -> Result<Self, String> {
        let source = PublishedSource::of(&given.source)?;
        let bits_per_second = if given.bits_per_second == 0 { BITS_PER_SECOND } else { given.bits_per_second };
        let [least, most] = BITS_PER_SECOND_RANGE;
        if !(least..=most).contains(&bits_per_second) {
            return Err(format!("`bits-per-second` is {bits_per_second}; from {least} to {most} are possible"));
        }
        Ok(Self { source, rate: rate(given.rate, PUBLISHED_RATE)?, bits_per_second })
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
        let source = PublishedSource::Microphone;
        assert_eq!(published, PublishedOptions { source, rate: 24_000, bits_per_second: 32_000 });
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
        let refused = |publication: &Publication| PublishedOptions::new(publication).unwrap_err();
        assert_eq!(refused(&publication(22_050, 0)).0, "invalid");
        assert_eq!(
            refused(&publication(0, 1_000_000)),
            ("invalid", "`bits-per-second` is 1000000; from 6000 to 128000 are possible".to_owned())
        );
        let camera = Publication { source: "camera".into(), ..Publication::default() };
        assert!(refused(&camera).1.starts_with("`camera` is no source of sound"));
        let long = Publication { name: "x".repeat(257), ..Publication::default() };
        assert_eq!(refused(&long).0, "too-large");
        let levels = Subscription { level_every: ms(100), ..Subscription::default() };
        assert!(HeardOptions::new(&levels).unwrap().needs_detector());
    }
}

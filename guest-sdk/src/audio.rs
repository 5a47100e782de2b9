//! Sound: what the agent hears, and what it says.
//!
//! An agent that hears everybody, and says what it heard:
//!
//! ```no_run
//! use wasm_worker_sdk::audio::{AudioEvent, AudioStream, Publication, Rule, Subscription};
//! use wasm_worker_sdk::{JobContext, Result};
//!
//! async fn parrot(ctx: &JobContext) -> Result {
//!     ctx.connect().await?;
//!     let voice = ctx.publish_audio(&Publication::default());
//!     let mut people = ctx.follow_audio(&Rule::people(), Subscription::default());
//!     let Some(mut caller) = people.next().await? else { return Ok(()) };
//!     while let Some(event) = caller.next().await? {
//!         if let AudioEvent::Frame(frame) = event {
//!             voice.capture_frame(&frame.samples()).await?;
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Samples are mono and have 16 bits. The host decodes, encodes, and finds voice, so that silence costs the agent nothing.

mod source;
#[cfg(test)]
mod tests;

pub use source::AudioSource;

pub use crate::bindings::wasm_worker::agent::audio::{Delivery, Publication, Rule, Subscription};
use crate::types::{AudioFrame, AudioLevel, AudioStart, Failure, Track, Voice};
use crate::{Event, JobContext, Operation, calls, executor};

/// The rate of sound that an agent hears and says, where it names none, in samples a second.
pub const RATE: u32 = 24_000;

impl JobContext {
    /// Hears one track of the room, by its `sid`: see [`Event::TrackPublished`].
    ///
    /// ```no_run
    /// # async fn example(ctx: &wasm_worker_sdk::JobContext) -> wasm_worker_sdk::Result {
    /// use wasm_worker_sdk::audio::Subscription;
    /// let mut heard = ctx.subscribe_audio("TR_abc", Subscription { rate: 16_000, ..Subscription::default() });
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe_audio(&self, track_sid: &str, options: Subscription) -> AudioStream {
        executor::count_call();
        let id = calls::audio::subscribe(track_sid, options);
        AudioStream { operation: Operation::new(id, "audio::AudioStream::next"), track: None }
    }

    /// Hears each track that fits the rule, those that are there and those that come.
    ///
    /// ```no_run
    /// # async fn example(ctx: &wasm_worker_sdk::JobContext) -> wasm_worker_sdk::Result {
    /// use wasm_worker_sdk::audio::{Rule, Subscription};
    /// let mut people = ctx.follow_audio(&Rule::people(), Subscription::default());
    /// while let Some(heard) = people.next().await? {
    ///     log::info!("{:?}", heard.track().map(|track| &track.participant));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow_audio(&self, rule: &Rule, options: Subscription) -> AudioTracks {
        executor::count_call();
        AudioTracks(Operation::new(calls::audio::follow(rule, options), "audio::AudioTracks::next"))
    }

    /// Publishes a track of the agent.
    ///
    /// ```no_run
    /// # async fn example(ctx: &wasm_worker_sdk::JobContext) -> wasm_worker_sdk::Result {
    /// let voice = ctx.publish_audio(&Default::default());
    /// voice.capture_frame(&[0; 480]).await?;
    /// voice.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_audio(&self, options: &Publication) -> AudioSource {
        AudioSource::publish(options)
    }
}

/// The tracks that a rule follows: see [`JobContext::follow_audio`]. Dropping it ends the rule; tracks that were taken from
/// it go on.
#[derive(Debug)]
pub struct AudioTracks(Operation);

impl AudioTracks {
    /// The next track. It ends with the room.
    ///
    /// # Errors
    ///
    /// The contract's failure: `not-joined` without a room, or once it is lost.
    pub async fn next(&mut self) -> Result<Option<AudioStream>, Failure> {
        while let Some(event) = self.0.next().await {
            match event {
                Event::AudioStarted(start) => return Ok(Some(AudioStream::new(start))),
                Event::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        Ok(None)
    }
}

impl Drop for AudioTracks {
    fn drop(&mut self) {
        // Tracks that nobody has taken are not heard.
        while let Some(event) = self.0.try_next() {
            if let Event::AudioStarted(start) = event {
                drop(AudioStream::new(start));
            }
        }
    }
}

/// What the agent hears on a track.
#[derive(Clone, Debug)]
pub enum AudioEvent {
    /// Sound. A step in its time is a gap, and `dropped_ms` tells what the agent was too late for.
    Frame(AudioFrame),
    /// Somebody begins to speak, where [`Subscription::detect_voice`] is set.
    VoiceStarted(Voice),
    /// Nobody speaks any more.
    VoiceEnded(Voice),
    /// The level, where [`Subscription::level_ms`] is set.
    Level(AudioLevel),
}

/// A track that the agent hears. Dropping it ends that.
///
/// While the agent does not read, some seconds of sound wait; then the oldest is dropped.
#[derive(Debug)]
pub struct AudioStream {
    operation: Operation,
    track: Option<Track>,
}

impl AudioStream {
    fn new(start: AudioStart) -> Self {
        Self { operation: Operation::new(start.id, "audio::AudioStream::next"), track: Some(start.track) }
    }

    /// The track; `None` before its first event, after [`JobContext::subscribe_audio`].
    pub fn track(&self) -> Option<&Track> {
        self.track.as_ref()
    }

    /// What is heard next; `None` once the track is gone.
    ///
    /// ```no_run
    /// # async fn example(mut heard: wasm_worker_sdk::audio::AudioStream) -> wasm_worker_sdk::Result {
    /// use wasm_worker_sdk::audio::AudioEvent;
    /// while let Some(event) = heard.next().await? {
    ///     match event {
    ///         AudioEvent::Frame(frame) => log::info!("{} samples", frame.samples().len()),
    ///         AudioEvent::VoiceStarted(voice) => log::info!("since {}", voice.at_ms),
    ///         AudioEvent::VoiceEnded(_) | AudioEvent::Level(_) => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The contract's failure: the track cannot be heard, or the room is lost.
    pub async fn next(&mut self) -> Result<Option<AudioEvent>, Failure> {
        while let Some(event) = self.operation.next().await {
            match event {
                Event::AudioStarted(start) => self.track = Some(start.track),
                Event::Audio(frame) => return Ok(Some(AudioEvent::Frame(frame))),
                Event::VoiceStarted(voice) => return Ok(Some(AudioEvent::VoiceStarted(voice))),
                Event::VoiceEnded(voice) => return Ok(Some(AudioEvent::VoiceEnded(voice))),
                Event::AudioLevel(level) => return Ok(Some(AudioEvent::Level(level))),
                Event::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        Ok(None)
    }
}

impl AudioFrame {
    /// The samples.
    ///
    /// ```no_run
    /// # fn example(frame: wasm_worker_sdk::types::AudioFrame) {
    /// let loudest = frame.samples().into_iter().map(i16::unsigned_abs).max();
    /// # }
    /// ```
    pub fn samples(&self) -> Vec<i16> {
        let (pairs, _) = self.pcm.as_chunks::<2>();
        pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect()
    }
}

impl Default for Subscription {
    /// All sound at [`RATE`], in frames of the host's length, 50 ms, without voice and levels.
    fn default() -> Self {
        Self {
            rate: RATE,
            frame_ms: 0,
            frames: Delivery::All,
            before_ms: 0,
            after_ms: 0,
            detect_voice: false,
            threshold: 0.0,
            min_voice_ms: 0,
            min_silence_ms: 0,
            level_ms: 0,
        }
    }
}

impl Rule {
    /// The microphones of people.
    pub fn people() -> Self {
        Self { participant: String::new(), source: "microphone".into(), people: true }
    }
}

impl Default for Rule {
    /// Every track of sound.
    fn default() -> Self {
        Self { participant: String::new(), source: String::new(), people: false }
    }
}

impl Default for Publication {
    /// A microphone at [`RATE`].
    fn default() -> Self {
        Self { name: String::new(), source: "microphone".into(), rate: RATE, bits_per_second: 0 }
    }
}

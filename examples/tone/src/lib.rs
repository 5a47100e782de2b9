//! A tuner: an agent that says, as text on `lk.chat`, which tone it hears.
//!
//! ```text
//! wasm-worker run examples/tone
//! wasm-worker run examples/tone --job --audio-in a4.wav
//! ```

use wasm_worker_sdk::audio::{AudioEvent, AudioStream, Rule, Subscription};
use wasm_worker_sdk::{Agent, Either, JobContext, Result, select, spawn};

/// Samples a second: enough for the tones of a tuner.
const RATE: u32 = 16_000;
/// Sound that is examined at once, in milliseconds.
const FRAME_MS: u32 = 100;
/// The periods of the highest tone and of the lowest, 1,600 Hz and 64 Hz, in samples.
const SHORTEST: u32 = RATE / 1_600;
const LONGEST: u32 = RATE / 64;
/// How much of itself a sound is one period later, from where on it is a tone.
const CLEAR: f64 = 0.9;
/// The mean power of the quietest sound that is examined.
const QUIET: f64 = 100.0 * 100.0;

const NAMES: [&str; 12] = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"];

#[derive(Default)]
struct Tone;

impl Agent for Tone {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        let options = Subscription { rate: RATE, frame_ms: FRAME_MS, ..Subscription::default() };
        let mut people = ctx.follow_audio(&Rule::people(), options);
        loop {
            match select(people.next(), ctx.shutdown_requested()).await {
                Either::Left(heard) => {
                    let Some(heard) = heard? else { return Ok(()) };
                    spawn("listen", listen(ctx.clone(), heard));
                }
                Either::Right(_) => return Ok(()),
            }
        }
    }
}

/// Says each tone that it hears twice in a row, once.
async fn listen(ctx: JobContext, mut heard: AudioStream) {
    let (mut last, mut told) = (None, None);
    while let Ok(Some(event)) = heard.next().await {
        let AudioEvent::Frame(frame) = event else { continue };
        let name = frequency(&frame.samples()).map(name);
        if name == last && name != told {
            if let Some(name) = &name
                && let Err(error) = ctx.send_text("lk.chat", name)
            {
                log::warn!("the tone is not told: {error}");
            }
            told.clone_from(&name);
        }
        last = name;
    }
}

/// The frequency of a tone; none where the sound is quiet or no tone. A tone is the same again after each period: the shortest time after
/// which the sound is again most like itself is its period.
fn frequency(samples: &[i16]) -> Option<f64> {
    let sound: Vec<f64> = samples.iter().map(|sample| f64::from(*sample)).collect();
    let power: f64 = sound.iter().map(|sample| sample * sample - QUIET).sum();
    if power < 0.0 {
        return None;
    }
    let likenesses: Vec<(u32, f64)> = (SHORTEST - 1..=LONGEST + 1).map(|lag| (lag, likeness(&sound, lag))).collect();
    likenesses.windows(3).find_map(|near| {
        let &[(_, before), (lag, at), (_, after)] = near else { return None };
        let is_top = at > CLEAR && before < at && at >= after;
        // The top of the parabola through the three values.
        is_top.then(|| f64::from(RATE) / (f64::from(lag) + (before - after) / (2.0 * (before - 2.0 * at + after))))
    })
}

/// How much a sound is like itself after some samples, up to 1.
fn likeness(sound: &[f64], lag: u32) -> f64 {
    let later = usize::try_from(lag).ok().and_then(|lag| sound.get(lag..)).unwrap_or_default();
    let (mut product, mut powers) = (0.0, 0.0);
    for (one, other) in sound.iter().zip(later) {
        product += one * other;
        powers += one * one + other * other;
    }
    if powers > 0.0 { 2.0 * product / powers } else { 0.0 }
}

/// The frequency, rounded, and the note next to it: `440 Hz, A4`.
fn name(hz: f64) -> String {
    let notes = (0..10).flat_map(|octave| NAMES.map(|name| (name, octave)));
    // Half tones from C0 on: A4 is the 57th, and has 440 Hz.
    let far = |half_tones: u8| (12.0 * (hz / 440.0).log2() + 57.0 - f64::from(half_tones)).abs();
    let nearest = notes.zip(0_u8..).min_by(|(_, one), (_, other)| far(*one).total_cmp(&far(*other)));
    let note = nearest.map(|((name, octave), _)| format!(", {name}{octave}")).unwrap_or_default();
    format!("{} Hz{note}", hz.round())
}

wasm_worker_sdk::agent!(Tone);

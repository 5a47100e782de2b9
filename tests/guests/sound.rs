//! Hears people (`in`), says a tone of 660 Hz (`out`) or repeats at once what it hears (`both`), as its metadata asks, and tells on
//! `lk.chat` how much of what it hears is a tone of 440 Hz. `tests/interop/livekit_agents/sound.py` does the same:
//! tests/bench/rooms/sound.rs measures both. As `cut` it says the tone at one text, is cut short by the next one, and tells on `lk.chat`
//! when that was and what had been played.

use std::f64::consts::TAU;

use wasm_worker_sdk::audio::{AudioEvent, AudioSource, AudioStream, Publication, Rule, Subscription};
use wasm_worker_sdk::{Agent, Either, Event, JobContext, Result, select, spawn};

/// Samples a second, in and out.
const RATE: u32 = 24_000;
/// Samples in which the power of the tone is compared: a tenth of a second.
const WINDOW: usize = RATE as usize / 10;
/// Samples after which the agent tells what it heard: two seconds.
const TOLD_EVERY: usize = 20 * WINDOW;
const HEARD_HZ: f64 = 440.0;
const SAID_HZ: f64 = 660.0;

#[derive(Default)]
struct Sound;

impl Agent for Sound {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let mode = ctx.job().metadata.clone();
        ctx.connect().await?;
        if mode == "out" {
            return match select(says(&ctx.publish_audio(&voice())), ctx.shutdown_requested()).await {
                Either::Left(said) => said,
                Either::Right(_) => Ok(()),
            };
        }
        if mode == "cut" {
            return match select(is_cut_short(ctx), ctx.shutdown_requested()).await {
                Either::Left(cut) => cut,
                Either::Right(_) => Ok(()),
            };
        }
        let options = Subscription { rate: RATE, ..Subscription::default() };
        let mut people = ctx.follow_audio(&Rule::people(), options);
        while let Either::Left(heard) = select(people.next(), ctx.shutdown_requested()).await {
            let Some(heard) = heard? else { break };
            let echo = (mode == "both").then(|| ctx.publish_audio(&voice()));
            spawn("hear", hears(ctx.clone(), heard, echo));
        }
        Ok(())
    }
}

fn voice() -> Publication {
    Publication { rate: RATE, ..Publication::default() }
}

/// Says the tone for ever: one second, again and again, which is a whole number of its turns.
async fn says(voice: &AudioSource) -> Result {
    let second: Vec<i16> = (0..RATE)
        .map(|at| {
            let angle = TAU * SAID_HZ * f64::from(at) / f64::from(RATE);
            #[allow(clippy::cast_possible_truncation, reason = "a quarter of the range")]
            let sample = (angle.sin() * 8_192.0) as i16;
            sample
        })
        .collect();
    loop {
        for frame in second.chunks_exact(RATE as usize / 50) {
            voice.capture_frame(frame).await?;
        }
    }
}

/// Texts take turns: one begins the tone, and the next one interrupts it.
async fn is_cut_short(ctx: &JobContext) -> Result {
    let voice = ctx.publish_audio(&voice());
    voice.wait_for_subscription().await?;
    ctx.send_text("lk.chat", "ready")?;
    for number in 1.. {
        text(ctx).await;
        if let Either::Left(said) = select(says(&voice), text(ctx)).await {
            return said;
        }
        voice.clear_queue();
        // Nothing waits before it: it is reached where the sound stopped.
        voice.mark(number);
        let Some(mark) = voice.next_mark().await else { break };
        ctx.send_text("lk.chat", &format!("cut {} {}", mark.at_ms, mark.played_ms))?;
    }
    Ok(())
}

async fn text(ctx: &JobContext) {
    while !matches!(ctx.next_event().await, Event::Text(_)) {}
}

async fn hears(ctx: JobContext, mut heard: AudioStream, echo: Option<AudioSource>) {
    if let Some(echo) = echo {
        return repeats(heard, echo).await;
    }
    let (mut samples, turns) = (Vec::new(), turns());
    while let Ok(Some(event)) = heard.next().await {
        let AudioEvent::Frame(frame) = event else { continue };
        samples.extend(frame.samples());
        if samples.len() >= TOLD_EVERY {
            let told = format!("{:.3}", share(&samples, &turns));
            samples.clear();
            if ctx.send_text("lk.chat", &told).is_err() {
                return;
            }
        }
    }
}

async fn repeats(mut heard: AudioStream, echo: AudioSource) {
    while let Ok(Some(event)) = heard.next().await {
        let AudioEvent::Frame(frame) = event else { continue };
        if echo.capture_bytes(&frame.pcm).await.is_err() {
            return;
        }
    }
}

/// The part of the power that is at the tone. `turns`: [`turns`].
fn share(samples: &[i16], turns: &[(f64, f64)]) -> f64 {
    let (mut at, mut all) = (0.0, 0.0);
    for window in samples.chunks_exact(WINDOW) {
        let (mut sine, mut cosine) = (0.0, 0.0);
        for ((sine_at, cosine_at), sample) in turns.iter().zip(window) {
            let sample = f64::from(*sample);
            sine += sample * sine_at;
            cosine += sample * cosine_at;
            all += sample * sample;
        }
        at += 2.0 / f64::from(RATE / 10) * (sine * sine + cosine * cosine);
    }
    at / f64::max(all, 1.0)
}

/// Sine and cosine of the tone at each sample of a window.
fn turns() -> Vec<(f64, f64)> {
    (0..RATE / 10).map(|place| (TAU * HEARD_HZ * f64::from(place) / f64::from(RATE)).sin_cos()).collect()
}

wasm_worker_sdk::agent!(Sound);

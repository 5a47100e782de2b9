//! Echoes each text on `lk.chat`, and repeats at once what it hears of people: tests/bench/rooms/own_rooms.rs measures it.

use wasm_worker_sdk::audio::{AudioEvent, AudioStream, Publication, Rule, Subscription};
use wasm_worker_sdk::{Agent, Event, JobContext, Result, spawn};

/// Samples a second, in and out.
const RATE: u32 = 24_000;

#[derive(Default)]
struct Parrot;

impl Agent for Parrot {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        spawn("listen", listens(ctx.clone()));
        loop {
            match ctx.next_event().await {
                Event::Text(message) => ctx.send_text(&message.info.topic, &format!("echo {}", message.text))?,
                Event::ShutdownRequested(_) => return Ok(()),
                _ => {}
            }
        }
    }
}

async fn listens(ctx: JobContext) {
    let options = Subscription { rate: RATE, ..Subscription::default() };
    let mut people = ctx.follow_audio(&Rule::people(), options);
    while let Ok(Some(heard)) = people.next().await {
        spawn("repeat", repeats(ctx.clone(), heard));
    }
}

async fn repeats(ctx: JobContext, mut heard: AudioStream) {
    let voice = ctx.publish_audio(&Publication { rate: RATE, ..Publication::default() });
    while let Ok(Some(event)) = heard.next().await {
        let AudioEvent::Frame(frame) = event else { continue };
        if voice.capture_bytes(&frame.pcm).await.is_err() {
            return;
        }
    }
}

wasm_worker_sdk::agent!(Parrot);

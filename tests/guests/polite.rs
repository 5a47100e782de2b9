//! Answers texts until everybody has left.

use wasm_worker_sdk::{Agent, Event, JobContext, Result};

#[derive(Default)]
struct Polite;

impl Agent for Polite {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        loop {
            match ctx.next_event().await {
                Event::Text(message) => ctx.send_text("lk.transcription", &format!("you said {}", message.text))?,
                Event::ParticipantLeft(_) => return Ok(()),
                _ => {}
            }
        }
    }
}

wasm_worker_sdk::agent!(Polite);

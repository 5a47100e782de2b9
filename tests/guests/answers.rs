//! Answers each text with a text, until the last one, which says so.

use wasm_worker_sdk::{Agent, Event, JobContext, Result};

#[derive(Default)]
struct Answers;

impl Agent for Answers {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        loop {
            if let Event::Text(message) = ctx.next_event().await {
                ctx.send_text("lk.transcription", &message.text)?;
                if message.text == "last" {
                    return Ok(());
                }
            }
        }
    }
}

wasm_worker_sdk::agent!(Answers);

//! A conversation: greets, answers each text in a task of its own, word by word, and ends after the third; the same each time.

use std::time::Duration;

use wasm_worker_sdk::{Agent, Event, JobContext, Result, random, spawn, time::sleep};

#[derive(Default)]
struct Converse;

impl Agent for Converse {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        ctx.send_text("chat", "hello")?;
        let mut turns = 0;
        while turns < 3 {
            let Event::Text(message) = ctx.next_event().await else { continue };
            turns += 1;
            let there = ctx.clone();
            let answers = spawn("answers", async move {
                for word in message.text.split(' ') {
                    drop(there.send_text("chat", word));
                    sleep(Duration::ZERO).await;
                }
            });
            answers.await?;
            ctx.set_attributes([("token", random::bytes(16).len().to_string().as_str())])?;
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(Converse);

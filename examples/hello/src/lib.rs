//! The smallest useful agent: it joins the room, waits 20 ms, sends a text and ends.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep};

#[derive(Default)]
struct Hello;

impl Agent for Hello {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        log::info!("hello, room `{}`", ctx.job().room.name);
        ctx.connect().await?;
        sleep(Duration::from_millis(20)).await;
        ctx.send_text("lk.transcription", "hello from WebAssembly")?;
        Ok(())
    }
}

wasm_worker_sdk::agent!(Hello);

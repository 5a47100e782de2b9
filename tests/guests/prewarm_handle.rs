//! Keeps a handle in its prewarm, so that no snapshot can be taken, and uses it in the job.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct PrewarmHandle {
    timer: Option<wasip2::io::poll::Pollable>,
}

impl Agent for PrewarmHandle {
    fn prewarm(&mut self) -> Result {
        self.timer = Some(wasip2::clocks::monotonic_clock::subscribe_duration(0));
        Ok(())
    }

    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        let ready = self.timer.take().is_some_and(|timer| timer.ready());
        ctx.send_text("ready", &ready.to_string())
    }
}

wasm_worker_sdk::agent!(PrewarmHandle);

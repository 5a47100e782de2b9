//! Stops when asked, and says so.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::timeout};

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Default)]
struct Obedient;

impl Agent for Obedient {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        let request = timeout(DAY, ctx.shutdown_requested()).await.ok_or("nobody asked")?;
        ctx.send_text("end", &request.reason)
    }
}

wasm_worker_sdk::agent!(Obedient);

//! Sets the same attributes again and again, which must cost it nothing.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Attributes;

impl Agent for Attributes {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        // The first round is for what the SDK itself takes.
        let mut used = [0.0; 2];
        for round in &mut used {
            for n in 0..10_000_u64 {
                ctx.set_attributes([("counter", format!("{n:05}").as_str())])?;
                if n % 1_000 == 0 {
                    // This is done once everything before it is.
                    ctx.connect().await?;
                }
            }
            ctx.set_attributes([("counter", "")])?;
            ctx.connect().await?;
            *round = ctx.budget().memory_bytes.used;
        }
        ctx.send_text("grown", &(used[1] - used[0]).to_string())
    }
}

wasm_worker_sdk::agent!(Attributes);

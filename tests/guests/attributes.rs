//! Sets the same attributes again and again, which must cost it nothing.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Attributes;

impl Agent for Attributes {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let before = ctx.budget().memory_bytes.used;
        for n in 0..10_000_u64 {
            ctx.set_attributes([("counter", format!("{n:05}").as_str())])?;
        }
        ctx.set_attributes([("counter", "")])?;
        let grown = ctx.budget().memory_bytes.used - before;
        ctx.send_text("grown", &grown.to_string())
    }
}

wasm_worker_sdk::agent!(Attributes);

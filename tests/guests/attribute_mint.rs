//! Tries to earn memory by having the host remove what it never charged.

use std::time::Duration;

use wasm_worker_sdk::types::AgentState;
use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep};

#[derive(Default)]
struct AttributeMint;

impl Agent for AttributeMint {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        let large = "x".repeat(900 << 10);
        for n in 0_u64.. {
            ctx.set_attributes([(format!("large{n}").as_str(), large.as_str())])?;
            // As many calls in a step as there may be.
            for _ in 0..10 {
                for _ in 0..2_000 {
                    ctx.set_agent_state(AgentState::Idle)?;
                    ctx.set_attributes([("lk.agent.state", "")])?;
                }
                sleep(Duration::ZERO).await;
            }
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(AttributeMint);

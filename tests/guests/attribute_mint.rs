//! Tries to earn memory by having the host remove what it never charged.

use wasm_worker_sdk::types::AgentState;
use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct AttributeMint;

impl Agent for AttributeMint {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let large = "x".repeat(900 << 10);
        for n in 0_u64.. {
            ctx.set_attributes([(format!("large{n}").as_str(), large.as_str())])?;
            for _ in 0..20_000 {
                ctx.set_agent_state(AgentState::Idle)?;
                ctx.set_attributes([("lk.agent.state", "")])?;
            }
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(AttributeMint);

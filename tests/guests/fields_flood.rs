//! Hangs more and more fields on its log lines.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct FieldsFlood;

impl Agent for FieldsFlood {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        for n in 0_u64.. {
            ctx.set_log_context_fields([(format!("field{n}").as_str(), "a value of some length")]);
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(FieldsFlood);

//! Uses 90 % of its memory and fuel, and says which warnings came.

use std::time::Duration;

use wasm_worker_sdk::{Agent, Event, JobContext, Result, time::timeout};

#[derive(Default)]
struct Budget;

impl Agent for Budget {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        let limit = ctx.budget().memory_bytes.limit.unwrap_or_default();
        let memory = std::hint::black_box(vec![1_u8; (limit * 0.88) as usize]);
        let fuel = ctx.budget().fuel.limit.unwrap_or_default();
        while ctx.budget().fuel.used < fuel * 0.9 {
            (0..10_000_u64).for_each(|n| {
                std::hint::black_box(n);
            });
        }
        drop(memory);
        let mut warnings = 0;
        while warnings < 2
            && let Some(event) = timeout(Duration::from_secs(60), ctx.next_event()).await
        {
            if let Event::LimitWarning(warning) = event {
                warnings += 1;
                ctx.send_text("warning", &warning.budget)?;
            }
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(Budget);

//! A good agent: computes, waits and sends, the same each time.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep};

#[derive(Default)]
struct Neighbour;

impl Agent for Neighbour {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let mut sum = 0_u64;
        for round in 0..5 {
            let squares: Vec<u64> = (0..10_000).map(|n| n * n + round).collect();
            sum = squares.iter().fold(sum, |sum, square| sum.rotate_left(1) ^ square);
            ctx.send_text("sum", &sum.to_string())?;
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(Neighbour);

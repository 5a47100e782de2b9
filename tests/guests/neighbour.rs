//! A good agent: computes, waits for as many milliseconds as its metadata says, 20 where it says nothing, and sends; five times,
//! and the same each time.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, Result, time::sleep, types::SendOptions};

#[derive(Default)]
struct Neighbour;

impl Agent for Neighbour {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let pause = Duration::from_millis(ctx.job().metadata.parse().unwrap_or(20));
        ctx.connect().await?;
        let mut sum = 0_u64;
        for round in 0..5 {
            let squares: Vec<u64> = (0..10_000).map(|n| n * n + round).collect();
            sum = squares.iter().fold(sum, |sum, square| sum.rotate_left(1) ^ square);
            // Each step has one event, however late it comes: the same work takes the same fuel in the same steps only.
            let mut text = ctx.open_text("sum", &SendOptions::default());
            text.write(&sum.to_string()).await?;
            text.close().await?;
            sleep(pause).await;
        }
        Ok(())
    }
}

wasm_worker_sdk::agent!(Neighbour);

//! Prints in its prewarm, so that no snapshot can be taken, and prints again in the job.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct PrewarmPrint;

impl Agent for PrewarmPrint {
    fn prewarm(&mut self) -> Result {
        println!("printed in prewarm");
        Ok(())
    }

    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        println!("printed in the job");
        ctx.connect().await?;
        ctx.send_text("end", "printed")
    }
}

wasm_worker_sdk::agent!(PrewarmPrint);

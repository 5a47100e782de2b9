//! Waits for two tasks: one waits for what never comes, and one for nothing at all.

use wasm_worker_sdk::{Agent, JobContext, Result, spawn};

#[derive(Default)]
struct StalledTasks;

impl Agent for StalledTasks {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let reader = ctx.clone();
        let reads = spawn("reads", async move {
            reader.next_event().await;
        });
        spawn("forgets", std::future::pending::<()>());
        reads.await?;
        Ok(())
    }
}

wasm_worker_sdk::agent!(StalledTasks);

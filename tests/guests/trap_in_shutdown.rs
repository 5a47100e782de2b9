//! Returns at once, and then panics in a shutdown callback.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct TrapInShutdown;

impl Agent for TrapInShutdown {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.add_shutdown_callback(async |reason| panic!("cannot clean up after `{reason}`"));
        Ok(())
    }
}

wasm_worker_sdk::agent!(TrapInShutdown);

//! Returns an error.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Error;

impl Agent for Error {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        let port: u16 = "seven".parse()?;
        log::info!("{port}");
        Ok(())
    }
}

wasm_worker_sdk::agent!(Error);

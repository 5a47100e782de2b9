//! Puts a participant out of the room, deletes the room, and tells how both went.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Steward;

impl Agent for Steward {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let removed = match ctx.remove_participant("troll").await {
            Ok(()) => "removed".to_owned(),
            Err(error) => error.to_string(),
        };
        let deleted = match ctx.delete_room().await {
            Ok(()) => "deleted".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(format!("{removed}; {deleted}").into())
    }
}

wasm_worker_sdk::agent!(Steward);

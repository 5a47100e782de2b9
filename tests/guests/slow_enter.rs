//! Waits in `on_enter` for somebody who never comes.

use wasm_worker_sdk::{Agent, AgentSession, Result};

#[derive(Default)]
struct SlowEnter;

impl Agent for SlowEnter {
    async fn on_enter(&mut self, session: &AgentSession<'_>) -> Result {
        session.ctx().wait_for_participant(Some("nobody")).await;
        Ok(())
    }

    async fn on_exit(&mut self, session: &AgentSession<'_>) -> Result {
        session.ctx().send_text("exit", "on_exit ran")
    }
}

wasm_worker_sdk::agent!(SlowEnter);

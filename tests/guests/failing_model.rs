//! Runs a session whose model fails each time.

use wasm_worker_sdk::{Agent, AgentSession, ChatContext, Result};

#[derive(Default)]
struct FailingModel;

impl Agent for FailingModel {
    async fn on_enter(&mut self, session: &AgentSession<'_>) -> Result {
        (0..5).for_each(|n| session.generate_reply(format!("question {n}")));
        Ok(())
    }

    async fn llm_node(&mut self, session: &AgentSession<'_>, _: &ChatContext) -> Result<Option<String>> {
        session.ctx().send_text("asked", "once")?;
        Err("503 from the model".into())
    }

    async fn on_exit(&mut self, session: &AgentSession<'_>) -> Result {
        session.ctx().send_text("exit", "on_exit ran")
    }
}

wasm_worker_sdk::agent!(FailingModel);

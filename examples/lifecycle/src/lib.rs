//! An agent with every hook. Each hook logs a numbered line; the host's events appear between the lines.
//!
//! `wasm-worker run examples/lifecycle --job` shows one conversation: a turn with a reply, a turn without one, and an
//! end that the agent requests.

use std::time::Duration;

use wasm_worker_sdk::types::{Acceptance, Decision, JobInfo};
use wasm_worker_sdk::{
    Agent, AgentSession, ChatContext, ChatMessage, ChatRole, Event, JobContext, LlmUsage, Result, StopResponse,
    time::sleep,
};

#[derive(Default)]
struct Lifecycle {
    greeting: String,
}

impl Agent for Lifecycle {
    fn prewarm(&mut self) -> Result {
        log::info!("1 prewarm: once, before all jobs");
        self.greeting = "welcome".into();
        Ok(())
    }

    fn decide(&mut self, offer: &JobInfo) -> Decision {
        log::info!("2 decide: a job for room `{}`", offer.room.name);
        if offer.metadata == "not for me" {
            return Decision::reject("the metadata says so", false);
        }
        Decision::Accept(Acceptance {
            identity: Some("lifecycle-agent".into()),
            name: "Lifecycle".into(),
            attributes: vec![("example".into(), "lifecycle".into())],
            ..Acceptance::default()
        })
    }

    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        log::info!("3 entrypoint: the job begins");
        ctx.set_log_context_fields([("room", ctx.job().room.name.as_str())]);
        let usage = ctx.usage();
        ctx.add_shutdown_callback(async move |reason| {
            log::info!("9 shutdown callback: {reason}; models used {:?}", usage.summary());
        });
        AgentSession::new(ctx).start(self).await?;
        log::info!("8 entrypoint: the session is over, the job ends");
        Ok(())
    }

    async fn on_enter(&mut self, session: &AgentSession<'_>) -> Result {
        log::info!("4 on_enter: the session begins");
        session.say(&self.greeting).await?;
        // Three turns, as if a user had written them. Texts of real users arrive as turns too.
        session.generate_reply("what is your name?");
        session.generate_reply("(nobody should answer this)");
        session.generate_reply("goodbye");
        Ok(())
    }

    async fn on_user_turn_completed(
        &mut self,
        _session: &AgentSession<'_>,
        chat: &mut ChatContext,
        message: &mut ChatMessage,
    ) -> Result {
        log::info!("5 on_user_turn_completed: `{}`", message.text);
        if message.text.starts_with('(') {
            log::info!("  no reply to this turn");
            return Err(StopResponse.into());
        }
        message.text.make_ascii_lowercase();
        chat.add(ChatRole::System, "answer in one sentence");
        Ok(())
    }

    async fn llm_node(&mut self, session: &AgentSession<'_>, chat: &ChatContext) -> Result<Option<String>> {
        let asked = chat.messages.last().map_or("", |message| message.text.as_str());
        log::info!("6 llm_node: {} messages so far", chat.messages.len());
        sleep(Duration::from_millis(10)).await;
        let used = LlmUsage { input_tokens: 12, output_tokens: 5, ..LlmUsage::default() };
        session.ctx().usage().llm("example", "echo", used);
        if asked == "goodbye" {
            session.ctx().shutdown("the user said goodbye");
            return Ok(Some("goodbye".into()));
        }
        Ok(Some(format!("you asked: {asked}")))
    }

    async fn on_event(&mut self, _session: &AgentSession<'_>, event: Event) -> Result {
        log::info!("  on_event: {}", event.name());
        Ok(())
    }

    async fn on_exit(&mut self, session: &AgentSession<'_>) -> Result {
        log::info!("7 on_exit: {} messages were exchanged", session.history().messages.len());
        Ok(())
    }
}

wasm_worker_sdk::agent!(Lifecycle);

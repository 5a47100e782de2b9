//! Runs a plain session that says what it saw, and closes when told.

use wasm_worker_sdk::{Agent, AgentSession, Event, Result};

#[derive(Default)]
struct Listener;

impl Agent for Listener {
    async fn on_event(&mut self, session: &AgentSession<'_>, event: Event) -> Result {
        match event {
            Event::ParticipantJoined(who) => session.ctx().send_text("joined", &who.identity),
            Event::ParticipantLeft(left) => session.ctx().send_text("left", &left.participant.identity),
            Event::Data(data) => session.ctx().send_text("data", &String::from_utf8_lossy(&data.payload)),
            _ => Ok(()),
        }
    }

    async fn on_exit(&mut self, session: &AgentSession<'_>) -> Result {
        session.ctx().send_text("exit", "on_exit ran")
    }
}

wasm_worker_sdk::agent!(Listener);

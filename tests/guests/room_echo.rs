//! Echoes each text on `lk.chat`, as `tests/interop/livekit_agents/echo.py` does: tests/bench/rooms.rs measures both.

use wasm_worker_sdk::types::AgentState;
use wasm_worker_sdk::{Agent, Event, JobContext, Result};

#[derive(Default)]
struct RoomEcho;

impl Agent for RoomEcho {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        ctx.set_agent_state(AgentState::Listening)?;
        loop {
            match ctx.next_event().await {
                Event::Text(message) => ctx.send_text(&message.info.topic, &format!("echo {}", message.text))?,
                Event::ShutdownRequested(_) => return Ok(()),
                _ => {}
            }
        }
    }
}

wasm_worker_sdk::agent!(RoomEcho);

//! Closes its session from beside it, while the session waits for somebody to speak.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use wasm_worker_sdk::{Agent, AgentSession, Event, JobContext, Result, select, time::sleep};

#[derive(Default)]
struct Patient {
    heard: Rc<Cell<bool>>,
}

impl Agent for Patient {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let session = AgentSession::new(ctx);
        let heard = self.heard.clone();
        let closer = async {
            while !heard.get() {
                sleep(Duration::from_millis(5)).await;
            }
            sleep(Duration::from_millis(20)).await;
            session.close();
            std::future::pending::<()>().await;
        };
        select(session.start(self), closer).await;
        Ok(())
    }

    async fn on_event(&mut self, session: &AgentSession<'_>, event: Event) -> Result {
        if let Event::Data(data) = event {
            session.ctx().send_text("data", &String::from_utf8_lossy(&data.payload))?;
            self.heard.set(true);
        }
        Ok(())
    }

    async fn on_exit(&mut self, session: &AgentSession<'_>) -> Result {
        session.ctx().send_text("exit", "on_exit ran")
    }
}

wasm_worker_sdk::agent!(Patient);

//! The one trait that an agent implements.

use crate::session::{AgentSession, ChatContext, ChatMessage};
use crate::types::{Acceptance, Decision, JobInfo, Rejection, RpcError};
use crate::{Event, JobContext, Result};

/// An agent: its preparation, its choice of jobs, and its work in one job.
///
/// The value is created by `Default` and completed by [`prewarm`](Agent::prewarm), once for all jobs. Each job works on
/// its own copy.
#[expect(async_fn_in_trait, reason = "an agent runs on one thread, so the futures need not be Send")]
pub trait Agent: Default + 'static {
    /// Prepares data that every job needs: parsed tables, prompts, an index.
    ///
    /// The host calls it once for each artifact, before any job, within `init-timeout`. The crate's page lists the data
    /// that must not be kept.
    fn prewarm(&mut self) -> Result {
        Ok(())
    }

    /// Accepts or rejects an offer. The dispatcher waits for the answer.
    ///
    /// Changes to `self` are kept for the job. The room is not joined yet, so nothing can be sent.
    fn decide(&mut self, offer: &JobInfo) -> Decision {
        let _ = offer;
        Decision::accept()
    }

    /// Runs the job. The job ends when the method returns; an error makes it fail with the error's text.
    ///
    /// The default starts an [`AgentSession`] with this agent, and returns when the session ends.
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        AgentSession::new(ctx).start(self).await
    }

    /// Handles the start of the session, for example with a greeting or a first question.
    async fn on_enter(&mut self, session: &AgentSession<'_>) -> Result {
        let _ = session;
        Ok(())
    }

    /// Handles the end of the session, for any reason but a trap or a kill.
    async fn on_exit(&mut self, session: &AgentSession<'_>) -> Result {
        let _ = session;
        Ok(())
    }

    /// Handles a user's turn before the reply is made. The method can change the message and the conversation.
    ///
    /// [`StopResponse`](crate::StopResponse) as the error suppresses the reply. Any other error is logged, and the turn
    /// is dropped. `chat` is a copy for this reply only; `message` becomes part of the history.
    async fn on_user_turn_completed(
        &mut self,
        session: &AgentSession<'_>,
        chat: &mut ChatContext,
        message: &mut ChatMessage,
    ) -> Result {
        let _ = (session, chat, message);
        Ok(())
    }

    /// Handles every other event of the session: a participant joined or left, data arrived, a limit is near.
    ///
    /// The default refuses requests of RPC methods that are not registered, and ignores the rest.
    async fn on_event(&mut self, session: &AgentSession<'_>, event: Event) -> Result {
        log::debug!("event `{}`", event.name());
        if let Event::RpcRequest(request) = event {
            let error = RpcError::new(RpcError::UNSUPPORTED_METHOD, "method not supported at destination");
            session.ctx().answer(request.id, Err(error));
        }
        Ok(())
    }

    /// Makes the reply to the conversation so far. `None` and [`StopResponse`](crate::StopResponse) make no reply.
    ///
    /// The third error in a row ends the session. The default has no model, so it makes no reply.
    async fn llm_node(&mut self, session: &AgentSession<'_>, chat: &ChatContext) -> Result<Option<String>> {
        let _ = (session, chat);
        Ok(None)
    }
}

impl Decision {
    /// Accepts the job with the default identity, name and attributes.
    ///
    /// ```no_run
    /// let decision = wasm_worker_sdk::types::Decision::accept();
    /// ```
    pub fn accept() -> Self {
        Self::Accept(Acceptance::default())
    }

    /// Rejects the job. With `terminate` the job is not offered to other workers; LiveKit's `reject` does the same.
    ///
    /// ```no_run
    /// let decision = wasm_worker_sdk::types::Decision::reject("closed today", true);
    /// ```
    pub fn reject(reason: &str, terminate: bool) -> Self {
        Self::Reject(Rejection { reason: reason.into(), terminate })
    }
}

impl Default for Acceptance {
    /// The identity `agent-<job id>`, without name, metadata and attributes.
    fn default() -> Self {
        Self { identity: None, name: String::new(), metadata: String::new(), attributes: Vec::new() }
    }
}

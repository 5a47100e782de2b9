//! The one trait that an agent implements.

use crate::session::{AgentSession, ChatContext, ChatMessage};
use crate::types::{Acceptance, Decision, JobInfo, Rejection};
use crate::{Event, JobContext, Result};

/// An agent: what it prepares once, which jobs it takes, and what it does in one.
///
/// A type is made with `Default`, then [`prewarm`](Agent::prewarm) fills it, once for all jobs; each job works on its own
/// copy.
#[expect(async_fn_in_trait, reason = "an agent runs on one thread, so the futures need not be Send")]
pub trait Agent: Default + 'static {
    /// Prepare what every job needs: parse tables, load prompts, build an index.
    ///
    /// Runs once for each artifact, before any job, under `init-timeout`. See the crate's page for what it must not keep.
    fn prewarm(&mut self) -> Result {
        Ok(())
    }

    /// Take or refuse an offer, at once: the dispatcher waits for the answer. What it changes in `self` is there when the job
    /// begins; there is no room yet to send anything to.
    fn decide(&mut self, offer: &JobInfo) -> Decision {
        let _ = offer;
        Decision::accept()
    }

    /// The job. Its end is the job's end; an error makes the job fail with that error's text.
    ///
    /// The default starts an [`AgentSession`] with this agent, and ends when the session does.
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        AgentSession::new(ctx).start(self).await
    }

    /// The session has begun: greet, or ask the first question.
    async fn on_enter(&mut self, session: &AgentSession<'_>) -> Result {
        let _ = session;
        Ok(())
    }

    /// The session is about to end, for whatever reason. Not called after a trap or a kill.
    async fn on_exit(&mut self, session: &AgentSession<'_>) -> Result {
        let _ = session;
        Ok(())
    }

    /// A user has said something, and no reply has been made yet. Change the message or the conversation here, or return
    /// [`StopResponse`](crate::StopResponse) to make no reply. Any other error is logged, and the turn is dropped.
    /// `chat` is a copy for this one reply; `message` is kept.
    async fn on_user_turn_completed(
        &mut self,
        session: &AgentSession<'_>,
        chat: &mut ChatContext,
        message: &mut ChatMessage,
    ) -> Result {
        let _ = (session, chat, message);
        Ok(())
    }

    /// Something happened that is neither a turn nor the end: somebody came or went, data, a limit warning.
    async fn on_event(&mut self, session: &AgentSession<'_>, event: Event) -> Result {
        let _ = session;
        log::debug!("{event:?}");
        Ok(())
    }

    /// The reply to the conversation so far; `None`, or [`StopResponse`](crate::StopResponse), says nothing. After three
    /// errors in a row the session ends with the last of them. The default has no model to ask, so it says nothing.
    async fn llm_node(&mut self, session: &AgentSession<'_>, chat: &ChatContext) -> Result<Option<String>> {
        let _ = (session, chat);
        Ok(None)
    }
}

impl Decision {
    /// Take the job, with nothing special.
    ///
    /// ```no_run
    /// let decision = wasm_worker_sdk::types::Decision::accept();
    /// ```
    pub fn accept() -> Self {
        Self::Accept(Acceptance::default())
    }

    /// Refuse the job. With `terminate` nobody else is asked either, which is what LiveKit's own `reject` does.
    ///
    /// ```no_run
    /// let decision = wasm_worker_sdk::types::Decision::reject("closed today", true);
    /// ```
    pub fn reject(reason: &str, terminate: bool) -> Self {
        Self::Reject(Rejection { reason: reason.into(), terminate })
    }
}

impl Default for Acceptance {
    /// The identity `agent-<job id>`, and nothing else.
    fn default() -> Self {
        Self { identity: None, name: String::new(), metadata: String::new(), attributes: Vec::new() }
    }
}

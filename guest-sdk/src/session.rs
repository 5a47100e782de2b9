//! A conversation: turns come in as texts, the agent's hooks run, replies go out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;

use crate::types::AgentState;
use crate::{Agent, Event, JobContext, Result};

/// Topic on which users write.
const CHAT_TOPIC: &str = "lk.chat";
/// Topic on which an agent's words are shown.
const TRANSCRIPTION_TOPIC: &str = "lk.transcription";

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatRole {
    /// Instructions to the model.
    System,
    /// A person in the room.
    User,
    /// This agent.
    Assistant,
}

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who said it.
    pub role: ChatRole,
    /// The words.
    pub text: String,
}

/// The conversation so far, oldest first.
#[derive(Clone, Debug, Default)]
pub struct ChatContext {
    /// What was said.
    pub messages: Vec<ChatMessage>,
}

impl ChatContext {
    /// Add what somebody said.
    ///
    /// ```
    /// use wasm_worker_sdk::{ChatContext, ChatRole};
    /// let mut chat = ChatContext::default();
    /// chat.add(ChatRole::System, "answer in one sentence");
    /// assert_eq!(chat.messages.len(), 1);
    /// ```
    pub fn add(&mut self, role: ChatRole, text: impl Into<String>) {
        self.messages.push(ChatMessage { role, text: text.into() });
    }
}

/// Return this from [`Agent::on_user_turn_completed`] to make no reply to that turn.
#[derive(Clone, Copy, Debug)]
pub struct StopResponse;

impl fmt::Display for StopResponse {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("no reply to this turn")
    }
}

impl std::error::Error for StopResponse {}

/// A running conversation between the room and one agent.
pub struct AgentSession<'job> {
    ctx: &'job JobContext,
    chat: RefCell<ChatContext>,
    /// Turns that the agent's own code started with [`run`](Self::run).
    own_turns: RefCell<VecDeque<String>>,
    closing: Cell<bool>,
}

impl<'job> AgentSession<'job> {
    /// A session for this job, not started yet.
    pub fn new(ctx: &'job JobContext) -> Self {
        Self { ctx, chat: RefCell::default(), own_turns: RefCell::default(), closing: Cell::new(false) }
    }

    /// The job that this session belongs to.
    pub fn ctx(&self) -> &'job JobContext {
        self.ctx
    }

    /// A copy of the conversation so far.
    pub fn history(&self) -> ChatContext {
        self.chat.borrow().clone()
    }

    /// Run the conversation: `on_enter`, a turn for each text on `lk.chat`, `on_exit`. Ends when the job is asked to stop,
    /// when the job's participant leaves, or after [`close`](Self::close).
    pub async fn start<A: Agent>(&self, agent: &mut A) -> Result {
        self.ctx.set_agent_state(AgentState::Initializing)?;
        agent.on_enter(self).await?;
        while let Some(text) = self.next_turn().await {
            self.turn(agent, text).await?;
        }
        agent.on_exit(self).await
    }

    /// Treat `text` as if a user had written it; its turn comes after those that wait already.
    pub fn run(&self, text: impl Into<String>) {
        self.own_turns.borrow_mut().push_back(text.into());
    }

    /// Say something without being asked.
    pub async fn say(&self, text: &str) -> Result {
        self.ctx.set_agent_state(AgentState::Speaking)?;
        self.ctx.send_text(TRANSCRIPTION_TOPIC, text)?;
        self.chat.borrow_mut().add(ChatRole::Assistant, text);
        Ok(())
    }

    /// End the session once the present turn is over; turns that wait are not taken any more.
    pub fn close(&self) {
        self.closing.set(true);
    }

    async fn next_turn(&self) -> Option<String> {
        if self.closing.get() {
            return None;
        }
        if let Some(text) = self.own_turns.borrow_mut().pop_front() {
            return Some(text);
        }
        if let Err(error) = self.ctx.set_agent_state(AgentState::Listening) {
            log::warn!("{error}");
        }
        loop {
            match self.ctx.next_event().await {
                Event::Text(message) if message.topic == CHAT_TOPIC => return Some(message.text),
                Event::ParticipantLeft(who) if self.is_ours(&who.identity) => return None,
                Event::ShutdownRequested(_) => return None,
                other => log::debug!("not for the session: {other:?}"),
            }
        }
    }

    fn is_ours(&self, identity: &str) -> bool {
        self.ctx.job().participant.as_ref().is_some_and(|participant| participant.identity == identity)
    }

    async fn turn<A: Agent>(&self, agent: &mut A, text: String) -> Result {
        self.ctx.set_agent_state(AgentState::Thinking)?;
        let mut chat = self.history();
        let mut message = ChatMessage { role: ChatRole::User, text };
        if let Err(error) = agent.on_user_turn_completed(self, &mut chat, &mut message).await {
            if !error.is::<StopResponse>() {
                log::error!("the turn is dropped: {error}");
            }
            return Ok(());
        }
        chat.messages.push(message);
        self.chat.replace(chat.clone());
        if let Some(reply) = agent.llm_node(self, &chat).await? {
            self.say(&reply).await?;
        }
        Ok(())
    }
}

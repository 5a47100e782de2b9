//! The agent session: texts arrive as turns, the agent's hooks run, and replies are sent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;

use crate::room::is_person;
use crate::types::{AgentState, Participant};
use crate::waits::{self, On};
use crate::{Agent, Either, Event, JobContext, Result, inbox, select};

/// Topic of the users' texts.
const CHAT_TOPIC: &str = "lk.chat";
/// Topic of the agent's replies.
const TRANSCRIPTION_TOPIC: &str = "lk.transcription";

/// Number of failed replies in a row that ends the session; `max_unrecoverable_errors` in LiveKit.
const ERRORS_MAX: usize = 3;

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatRole {
    /// The instructions to the model.
    System,
    /// A person in the room.
    User,
    /// This agent.
    Assistant,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// The author.
    pub role: ChatRole,
    /// The text.
    pub text: String,
}

/// A conversation.
#[derive(Clone, Debug, Default)]
pub struct ChatContext {
    /// The messages, oldest first.
    pub messages: Vec<ChatMessage>,
}

impl ChatContext {
    /// Appends a message.
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

/// The error that suppresses the reply to a turn, returned by [`Agent::on_user_turn_completed`] or [`Agent::llm_node`].
#[derive(Clone, Copy, Debug)]
pub struct StopResponse;

impl fmt::Display for StopResponse {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("no reply to this turn")
    }
}

impl std::error::Error for StopResponse {}

/// The reasons of a leaving that end a session, as in LiveKit's frameworks: the person meant it, or the room is over.
const ENDING: [&str; 3] = ["client-initiated", "room-deleted", "user-rejected"];

/// A conversation between the room and one agent.
pub struct AgentSession<'job> {
    ctx: &'job JobContext,
    chat: RefCell<ChatContext>,
    /// Turns started by [`generate_reply`](Self::generate_reply) that wait.
    own_turns: RefCell<VecDeque<String>>,
    /// Identity of the participant whose leaving ends the session.
    linked: RefCell<Option<String>>,
    closing: Cell<bool>,
}

/// The session's next step.
#[allow(clippy::large_enum_variant, reason = "each value lives for a moment")]
enum Next {
    Turn(String),
    Event(Event),
    End,
}

impl<'job> AgentSession<'job> {
    /// Creates a session for this job. [`start`](Self::start) runs it.
    pub fn new(ctx: &'job JobContext) -> Self {
        Self {
            ctx,
            chat: RefCell::default(),
            own_turns: RefCell::default(),
            linked: RefCell::new(ctx.job().participant.as_ref().map(|who| who.identity.clone())),
            closing: Cell::new(false),
        }
    }

    /// The context of the session's job.
    pub fn ctx(&self) -> &'job JobContext {
        self.ctx
    }

    /// Returns a copy of the conversation so far.
    pub fn history(&self) -> ChatContext {
        self.chat.borrow().clone()
    }

    /// Replaces the conversation, for example with instructions to the model at its start.
    pub fn update_chat_ctx(&self, chat: ChatContext) {
        self.chat.replace(chat);
    }

    /// Runs the session to its end: `on_enter`, a turn for each text on `lk.chat`, and `on_exit`. Joins the room first, if
    /// the agent has not.
    ///
    /// The session ends when the job is asked to stop, also during a turn; when the job's participant, or else the first
    /// person in the room, leaves by itself; and when the current turn is over after a call of [`close`](Self::close).
    pub async fn start<A: Agent>(&self, agent: &mut A) -> Result {
        let result = match select(self.converse(agent), inbox::shutdown_requested("")).await {
            Either::Left(result) => result,
            Either::Right(_) => Ok(()),
        };
        if let Err(error) = agent.on_exit(self).await {
            log::error!("on_exit failed: {error}");
        }
        result
    }

    /// Queues a turn with this text, as if a user had written it.
    pub fn generate_reply(&self, user_input: impl Into<String>) {
        self.own_turns.borrow_mut().push_back(user_input.into());
        waits::wake(On::Inbox);
    }

    /// Sends a text without a user's turn.
    pub async fn say(&self, text: &str) -> Result {
        self.ctx.set_agent_state(AgentState::Speaking)?;
        self.ctx.send_text(TRANSCRIPTION_TOPIC, text)?;
        self.chat.borrow_mut().add(ChatRole::Assistant, text);
        Ok(())
    }

    /// Ends the session after the current turn. Turns that wait are discarded.
    pub fn close(&self) {
        self.closing.set(true);
        waits::wake(On::Inbox);
    }

    async fn converse<A: Agent>(&self, agent: &mut A) -> Result {
        self.ctx.set_agent_state(AgentState::Initializing)?;
        if !self.ctx.is_connected() {
            self.ctx.connect().await?;
        }
        if let Some(who) = self.ctx.participants().into_iter().find(is_person) {
            self.linked.borrow_mut().get_or_insert(who.identity);
        }
        agent.on_enter(self).await?;
        let mut errors = 0;
        loop {
            match self.next().await? {
                Next::End => return Ok(()),
                Next::Event(event) => {
                    if let Err(error) = agent.on_event(self, event).await {
                        log::error!("on_event failed: {error}");
                    }
                }
                Next::Turn(text) => match self.turn(agent, text).await {
                    Ok(()) => errors = 0,
                    Err(error) => {
                        errors += 1;
                        if errors == ERRORS_MAX {
                            return Err(error);
                        }
                        log::error!("the reply failed: {error}");
                    }
                },
            }
        }
    }

    /// The next step, by priority: the end, turns that the agent started, events from outside.
    async fn next(&self) -> Result<Next> {
        if self.own_turns.borrow().is_empty() {
            self.ctx.set_agent_state(AgentState::Listening)?;
        }
        let next = waits::until(On::Inbox, "next_event", || {
            if self.closing.get() || inbox::stopping() {
                return Some(Next::End);
            }
            if let Some(text) = self.own_turns.borrow_mut().pop_front() {
                return Some(Next::Turn(text));
            }
            inbox::next().map(|event| self.sort(event))
        });
        Ok(next.await)
    }

    fn sort(&self, event: Event) -> Next {
        match event {
            Event::Text(message) if message.info.topic == CHAT_TOPIC => Next::Turn(message.text),
            Event::ParticipantJoined(who) => {
                if is_person(&who) {
                    self.linked.borrow_mut().get_or_insert_with(|| who.identity.clone());
                }
                Next::Event(Event::ParticipantJoined(who))
            }
            Event::ParticipantLeft(left) if self.is_linked(&left.participant) => {
                if ENDING.contains(&left.reason.as_str()) {
                    return Next::End;
                }
                // Whose connection failed may come back. In the place of the first person may come another one.
                if self.ctx.job().participant.is_none() {
                    self.linked.take();
                }
                Next::Event(Event::ParticipantLeft(left))
            }
            Event::ShutdownRequested(_) => Next::End,
            other => Next::Event(other),
        }
    }

    fn is_linked(&self, who: &Participant) -> bool {
        self.linked.borrow().as_ref() == Some(&who.identity)
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
        chat.messages.push(message.clone());
        self.chat.borrow_mut().messages.push(message);
        match agent.llm_node(self, &chat).await {
            Ok(Some(reply)) => self.say(&reply).await,
            Ok(None) => Ok(()),
            Err(error) if error.is::<StopResponse>() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

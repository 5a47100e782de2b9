//! `wasm-worker:agent/room`, without a room: what the agent does there is kept in the job's record.

use std::collections::BTreeMap;

use serde::Serialize;

use super::HostState;
use super::bindings::wasm_worker::agent::room::{AgentState, Host};
use super::contract::{Attributes, Participant};
use super::control::pairs_bytes;
use super::meter::Interface;

/// Attribute under which front ends look for an agent's state.
const AGENT_STATE: &str = "lk.agent.state";

/// A text that the agent sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SentText {
    /// Topic it was sent on.
    pub topic: String,
    /// The whole text.
    pub text: String,
}

/// What the agent did in its room.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RoomRecord {
    /// The agent's own attributes as they are now.
    pub attributes: BTreeMap<String, String>,
    /// Texts it sent, in order.
    pub texts: Vec<SentText>,
    #[serde(skip)]
    participants: BTreeMap<String, Participant>,
}

impl RoomRecord {
    pub(super) fn join(&mut self, participants: Vec<Participant>) {
        self.participants = participants.into_iter().map(|who| (who.identity.clone(), who)).collect();
    }

    pub(super) fn joined(&mut self, who: Participant) {
        self.participants.insert(who.identity.clone(), who);
    }

    pub(super) fn left(&mut self, identity: &str) {
        self.participants.remove(identity);
    }
}

impl Host for HostState {
    fn participants(&mut self) -> wasmtime::Result<Vec<Participant>> {
        self.meter.count(Interface::Room, 0);
        Ok(self.room.participants.values().cloned().collect())
    }

    fn send_text(&mut self, topic: String, text: String) -> wasmtime::Result<Result<(), String>> {
        let bytes = topic.len() + text.len();
        self.meter.count(Interface::Room, bytes);
        self.meter.charge(bytes + size_of::<SentText>())?;
        self.room.texts.push(SentText { topic, text });
        Ok(Ok(()))
    }

    fn set_attributes(&mut self, attributes: Attributes) -> wasmtime::Result<Result<(), String>> {
        let bytes = pairs_bytes(&attributes);
        self.meter.count(Interface::Room, bytes);
        self.meter.charge(bytes)?;
        for (name, value) in attributes {
            let old = if value.is_empty() {
                self.room.attributes.remove(&name)
            } else {
                self.room.attributes.insert(name, value)
            };
            self.meter.release(old.map_or(0, |value| value.len()));
        }
        Ok(Ok(()))
    }

    fn set_agent_state(&mut self, state: AgentState) -> wasmtime::Result<Result<(), String>> {
        self.meter.count(Interface::Room, 0);
        let state = match state {
            AgentState::Initializing => "initializing",
            AgentState::Idle => "idle",
            AgentState::Listening => "listening",
            AgentState::Thinking => "thinking",
            AgentState::Speaking => "speaking",
        };
        self.room.attributes.insert(AGENT_STATE.into(), state.into());
        Ok(Ok(()))
    }
}

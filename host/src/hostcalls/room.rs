//! `wasm-worker:agent/room`, without a room: what the agent does there is kept in the job's record.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::HostState;
use super::bindings::wasm_worker::agent::room::{AgentState, Host, RoomError, SendOptions};
use super::calls::Interface;
use super::contract::{Attributes, Participant};
use super::control::Control;
use super::kill::Kill;
use super::mailbox::{pair_bytes, pairs_bytes, text_bytes};

/// Attribute under which front ends look for an agent's state.
const AGENT_STATE: &str = "lk.agent.state";

/// Texts of one job that its record keeps.
const TEXTS_MAX: usize = 1_000;

/// A text that the agent sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SentText {
    /// Topic it was sent on.
    pub topic: String,
    /// The whole text.
    pub text: String,
    /// Identities it was sent to; everyone when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
    /// Sent along with it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// What the agent did in its room.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RoomRecord {
    /// The agent's own attributes as they are now.
    pub attributes: BTreeMap<String, String>,
    /// The first texts it sent, in order.
    pub texts: Vec<SentText>,
    /// Texts after those, which are not kept.
    pub texts_not_kept: u64,
}

impl SentText {
    fn bytes(&self) -> usize {
        let Self { topic, text, destinations, attributes } = self;
        let pairs = attributes.iter().map(|(name, value)| pair_bytes(name, value));
        let texts = [topic, text].into_iter().chain(destinations).map(|text| text_bytes(text));
        texts.sum::<usize>() + pairs.sum::<usize>()
    }
}

impl RoomRecord {
    /// Keep so many bytes of it, and the count of the texts that are gone.
    pub(crate) fn shorten(&mut self, bytes_max: usize) {
        let mut left = bytes_max;
        let mut fits = |bytes: usize| left.checked_sub(bytes).map(|less| left = less).is_some();
        self.attributes.retain(|name, value| fits(pair_bytes(name, value)));
        let kept = self.texts.iter().take_while(|text| fits(text.bytes())).count();
        self.texts_not_kept += self.texts.drain(kept..).count() as u64;
        self.texts.shrink_to_fit();
    }
}

impl Host for HostState {
    fn participants(&mut self) -> wasmtime::Result<Vec<Participant>> {
        self.meter.count(Interface::Room, 0);
        let (participants, version) = self.control.inbox.participants();
        self.participants_seen = version;
        Ok(participants)
    }

    fn subscribe_participants(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        self.meter.count(Interface::Room, 0);
        self.give_handle("wasm-worker:agent/room.subscribe-participants")?;
        let changed = ParticipantsChanged { control: self.control.clone(), seen: self.participants_seen };
        let changed = self.table.push(changed)?;
        subscribe(&mut self.table, changed)
    }

    fn send_text(
        &mut self,
        topic: String,
        text: String,
        options: SendOptions,
    ) -> wasmtime::Result<Result<(), RoomError>> {
        let SendOptions { destinations, attributes } = options;
        let attributes = attributes.into_iter().collect();
        let sent = SentText { topic, text, destinations, attributes };
        self.meter.count(Interface::Room, sent.topic.len() + sent.text.len());
        if self.room.texts.len() == TEXTS_MAX {
            self.room.texts_not_kept += 1;
            return Ok(Ok(()));
        }
        self.meter.charge(sent.bytes() + size_of::<SentText>())?;
        self.room.texts.push(sent);
        Ok(Ok(()))
    }

    fn set_attributes(&mut self, attributes: Attributes) -> wasmtime::Result<Result<(), RoomError>> {
        self.meter.count(Interface::Room, pairs_bytes(&attributes));
        for (name, value) in attributes {
            self.put_attribute(name, value)?;
        }
        Ok(Ok(()))
    }

    fn set_agent_state(&mut self, state: AgentState) -> wasmtime::Result<Result<(), RoomError>> {
        self.meter.count(Interface::Room, 0);
        let state = match state {
            AgentState::Initializing => "initializing",
            AgentState::Idle => "idle",
            AgentState::Listening => "listening",
            AgentState::Thinking => "thinking",
            AgentState::Speaking => "speaking",
        };
        self.put_attribute(AGENT_STATE.into(), state.into())?;
        Ok(Ok(()))
    }
}

impl HostState {
    /// Set or remove one attribute, and charge what it takes in place of what it took.
    fn put_attribute(&mut self, name: String, value: String) -> Result<(), Kill> {
        if let Some((name, value)) = self.room.attributes.remove_entry(&name) {
            self.meter.release(pair_bytes(&name, &value));
        }
        if !value.is_empty() {
            self.meter.charge(pair_bytes(&name, &value))?;
            self.room.attributes.insert(name, value);
        }
        Ok(())
    }
}

/// Ready when the participants have changed since they were last asked for.
struct ParticipantsChanged {
    control: Arc<Control>,
    seen: u64,
}

#[async_trait]
impl Pollable for ParticipantsChanged {
    async fn ready(&mut self) {
        self.control.inbox.wait_for_participants(self.seen).await;
    }
}

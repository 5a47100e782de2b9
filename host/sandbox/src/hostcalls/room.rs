//! `wasm-worker:agent/room`, without a room: what the agent does there is kept in the job's record.

use std::sync::Arc;

use wasm_worker_core::record::SentText;
use wasm_worker_core::text::{pair_bytes, pairs_bytes};
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::HostState;
use super::bindings::wasm_worker::agent::room::{AgentState, Host, RoomError, SendOptions};
use super::calls::Interface;
use super::contract::{Attributes, Participant};
use super::control::Control;
use super::kill::Kill;

/// Attribute under which front ends look for an agent's state.
const AGENT_STATE: &str = "lk.agent.state";

/// Texts of one job that its record keeps.
const TEXTS_MAX: usize = 1_000;

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

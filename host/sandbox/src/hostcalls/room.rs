//! `wasm-worker:agent/room`, without a room: the job's record keeps what the agent does there.

use std::sync::Arc;

use wasm_worker_core::record::SentText;
use wasm_worker_core::text::{pair_bytes, pairs_bytes};
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::{Interface, Own};
use crate::guest::HostState;
use crate::guest::bindings::wasm_worker::agent::room::{self, AgentState, Host, RoomError, SendOptions};
use crate::guest::contract::{Attributes, Participant};
use crate::guest::control::Control;
use crate::guest::kill::Kill;

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface {
    name: "wasm-worker:agent/room",
    add_to_linker: |linker| room::add_to_linker::<_, Own>(linker, |state| state),
}];

/// Attribute under which front ends look for an agent's state.
const AGENT_STATE: &str = "lk.agent.state";

/// Most texts of one job that its record keeps.
const TEXTS_MAX: usize = 1_000;

impl Host for HostState {
    fn participants(&mut self) -> wasmtime::Result<Vec<Participant>> {
        self.meter.calls.room.add(0);
        let (participants, version) = self.control.inbox.participants();
        self.participants_seen = version;
        Ok(participants)
    }

    fn subscribe_participants(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        self.meter.calls.room.add(0);
        self.check_handle_allowed("wasm-worker:agent/room.subscribe-participants")?;
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
        self.meter.calls.room.add(sent.topic.len() + sent.text.len());
        if self.room.texts.len() == TEXTS_MAX {
            self.room.texts_not_kept += 1;
            return Ok(Ok(()));
        }
        self.meter.charge(sent.bytes() + size_of::<SentText>())?;
        self.room.texts.push(sent);
        Ok(Ok(()))
    }

    fn set_attributes(&mut self, attributes: Attributes) -> wasmtime::Result<Result<(), RoomError>> {
        self.meter.calls.room.add(pairs_bytes(&attributes));
        for (name, value) in attributes {
            self.put_attribute(name, value)?;
        }
        Ok(Ok(()))
    }

    fn set_agent_state(&mut self, state: AgentState) -> wasmtime::Result<Result<(), RoomError>> {
        self.meter.calls.room.add(0);
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
    /// Set or remove one attribute, release the memory of its old value, and charge that of the new one.
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

/// Ready when the participants have changed since the guest saw them last.
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

//! `wasm-worker:agent/socket`: outgoing WebSockets.

use wasm_worker_core::text::{pairs_bytes, text_bytes};

use super::{Interface, Own};
use crate::guest::HostState;
use crate::guest::bindings::wasm_worker::agent::socket::{self, Host};
use crate::guest::calls::Call;
use crate::guest::contract::Attributes;

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface {
    name: "wasm-worker:agent/socket",
    add_to_linker: |linker| socket::add_to_linker::<_, Own>(linker, |state| state),
}];

impl Host for HostState {
    fn connect(
        &mut self,
        url: String,
        headers: Attributes,
        protocols: Vec<String>,
        timeout_ms: u32,
    ) -> wasmtime::Result<u32> {
        let names: usize = protocols.iter().map(|name| text_bytes(name)).sum();
        let bytes = url.len() + pairs_bytes(&headers) + names;
        self.meter.calls.room.add(bytes);
        self.begin(bytes, |id| Call::ConnectSocket { id, url, headers, protocols, timeout_ms })
    }

    fn send_text(&mut self, id: u32, text: String) -> wasmtime::Result<()> {
        self.meter.calls.room.add(text.len());
        self.buffer(text.len(), Call::SendSocketText { id, text })
    }

    fn send_bytes(&mut self, id: u32, bytes: Vec<u8>) -> wasmtime::Result<()> {
        self.meter.calls.room.add(bytes.len());
        self.buffer(bytes.len(), Call::SendSocketBytes { id, bytes })
    }

    fn close(&mut self, id: u32, code: u16, reason: String) -> wasmtime::Result<()> {
        self.meter.calls.room.add(reason.len());
        self.buffer(reason.len(), Call::CloseSocket { id, code, reason })
    }
}

//! `wasm-worker:agent/http`: outgoing requests.

use wasm_worker_core::text::pairs_bytes;

use super::{Interface, Own};
use crate::guest::HostState;
use crate::guest::bindings::wasm_worker::agent::http::{self, Host, Request};
use crate::guest::calls::Call;

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface {
    name: "wasm-worker:agent/http",
    add_to_linker: |linker| http::add_to_linker::<_, Own>(linker, |state| state),
}];

impl Host for HostState {
    fn send(&mut self, request: Request) -> wasmtime::Result<u32> {
        let bytes = request_bytes(&request);
        self.meter.calls.room.add(bytes);
        self.begin(bytes, |id| Call::SendHttp { id, request })
    }

    fn open(&mut self, request: Request) -> wasmtime::Result<u32> {
        let bytes = request_bytes(&request);
        self.meter.calls.room.add(bytes);
        self.begin(bytes, |id| Call::OpenHttp { id, request })
    }

    fn write(&mut self, id: u32, bytes: Vec<u8>) -> wasmtime::Result<()> {
        self.meter.calls.room.add(bytes.len());
        self.buffer(bytes.len(), Call::WriteHttp { id, bytes })
    }

    fn end(&mut self, id: u32) -> wasmtime::Result<()> {
        self.meter.calls.room.add(0);
        self.buffer(0, Call::EndHttp { id })
    }
}

fn request_bytes(request: &Request) -> usize {
    request.method.len() + request.url.len() + pairs_bytes(&request.headers) + request.body.len()
}

//! `wasm-worker:agent/trace`: spans and measurements.

use wasm_worker_core::text::pairs_bytes;

use super::{Interface, Own};
use crate::guest::HostState;
use crate::guest::bindings::wasm_worker::agent::trace::{self, Host};
use crate::guest::calls::Call;
use crate::guest::contract::Attributes;

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface {
    name: "wasm-worker:agent/trace",
    add_to_linker: |linker| trace::add_to_linker::<_, Own>(linker, |state| state),
}];

impl Host for HostState {
    fn begin(&mut self, name: String, parent: u32, at_ms: f64) -> wasmtime::Result<u32> {
        self.meter.calls.job.add(name.len());
        Self::begin(self, name.len(), |id| Call::BeginSpan { id, name, parent, at_ms })
    }

    fn set(&mut self, id: u32, attributes: Attributes) -> wasmtime::Result<()> {
        let bytes = pairs_bytes(&attributes);
        self.meter.calls.job.add(bytes);
        self.buffer(bytes, Call::SetSpan { id, attributes })
    }

    fn event(&mut self, id: u32, name: String, at_ms: f64, attributes: Attributes) -> wasmtime::Result<()> {
        let bytes = name.len() + pairs_bytes(&attributes);
        self.meter.calls.job.add(bytes);
        self.buffer(bytes, Call::AddSpanEvent { id, name, at_ms, attributes })
    }

    fn end(&mut self, id: u32, at_ms: f64, error: Option<String>) -> wasmtime::Result<()> {
        let bytes = error.as_ref().map_or(0, String::len);
        self.meter.calls.job.add(bytes);
        self.buffer(bytes, Call::EndSpan { id, at_ms, error })
    }

    fn measure(&mut self, name: String, value: f64, attributes: Attributes) -> wasmtime::Result<()> {
        let bytes = name.len() + pairs_bytes(&attributes);
        self.meter.calls.job.add(bytes);
        self.buffer(bytes, Call::Measure { name, value, attributes })
    }
}

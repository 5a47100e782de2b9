//! `wasm-worker:agent/flow`: ids of every kind.

use super::{Interface, Own};
use crate::guest::HostState;
use crate::guest::bindings::wasm_worker::agent::flow::{self, Host};
use crate::guest::calls::Call;

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface {
    name: "wasm-worker:agent/flow",
    add_to_linker: |linker| flow::add_to_linker::<_, Own>(linker, |state| state),
}];

impl Host for HostState {
    fn cancel(&mut self, id: u32) -> wasmtime::Result<()> {
        self.meter.calls.job.add(0);
        self.buffer(0, Call::Cancel { id })
    }

    fn hold(&mut self, id: u32, held: bool) -> wasmtime::Result<()> {
        self.meter.calls.job.add(0);
        self.buffer(0, Call::Hold { id, held })
    }
}

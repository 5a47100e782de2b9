//! `wasi:io`: polls that never wait, and the streams, which are those of wasmtime-wasi.

use wasmtime::component::{HasSelf, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll::{Host, HostPollable};
use wasmtime_wasi::p2::bindings::io::{error, poll, streams};

use super::{Interface, Own};
use crate::guest::HostState;

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[
    Interface {
        name: "wasi:io/error",
        add_to_linker: |linker| error::add_to_linker::<_, Table>(linker, |state| &mut state.table),
    },
    Interface { name: "wasi:io/poll", add_to_linker: |linker| poll::add_to_linker::<_, Own>(linker, |state| state) },
    Interface {
        name: "wasi:io/streams",
        add_to_linker: |linker| streams::add_to_linker::<_, Table>(linker, |state| &mut state.table),
    },
];

/// How the data of an interface is found in a store: it is the table of handles.
type Table = HasSelf<ResourceTable>;

/// The guest wanted to wait in a host call.
#[derive(Debug, thiserror::Error)]
#[error("the agent waited in `wasi:io/poll`; an agent returns from `resume` to wait, and `job.wake` sets its timer")]
struct Waited;

impl Host for HostState {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.meter.calls.poll.add(pollables.len() * size_of::<u32>());
        if pollables.is_empty() {
            return Err(wasmtime::Error::msg("empty poll list"));
        }
        let mut ready = Vec::new();
        for (index, pollable) in (0..).zip(pollables) {
            if self.table.ready(pollable).await? {
                ready.push(index);
            }
        }
        if ready.is_empty() { Err(Waited.into()) } else { Ok(ready) }
    }
}

impl HostPollable for HostState {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.meter.calls.poll.add(0);
        if self.table.ready(pollable).await? { Ok(()) } else { Err(Waited.into()) }
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.meter.calls.poll.add(0);
        self.table.ready(pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        HostPollable::drop(&mut self.table, pollable)
    }
}

//! `wasi:io`: the place where a guest waits, and the streams, which are those of wasmtime-wasi.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
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
type Waiting<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send + 'a>>;

impl HostState {
    /// Wait for the guest. This counts as a wait of the job, and a kill reaches a guest that does not run here.
    pub(super) async fn wait<T>(&mut self, start: impl FnOnce(&mut Self) -> Waiting<'_, T>) -> wasmtime::Result<T> {
        let control = self.control.clone();
        let began = Instant::now();
        control.clock.wait_begins();
        let result = tokio::select! {
            biased;
            result = start(self) => result,
            kill = control.killed() => Err(kill.into()),
        };
        control.clock.wait_ends(began.elapsed());
        result
    }
}

impl Host for HostState {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.meter.calls.poll.add(pollables.len() * size_of::<u32>());
        self.wait(|state| Box::pin(state.table.poll(pollables))).await
    }
}

impl HostPollable for HostState {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.meter.calls.poll.add(0);
        self.wait(|state| Box::pin(state.table.block(pollable))).await
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.meter.calls.poll.add(0);
        let ready = self.table.ready(pollable).await?;
        if ready {
            // An executor asks this first, and does not poll for a pollable that is ready.
            self.control.clock.wait_ends(Duration::ZERO);
        }
        Ok(ready)
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        HostPollable::drop(&mut self.table, pollable)
    }
}

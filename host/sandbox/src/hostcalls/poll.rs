//! `wasi:io/poll`: the place where a guest waits.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll::{Host, HostPollable};

use super::HostState;
use super::calls::Interface;

type Waiting<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send + 'a>>;

impl HostState {
    /// Wait on the guest's behalf: a sign of life, and the place where a kill reaches a guest that does not run.
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
        self.meter.count(Interface::Poll, pollables.len() * size_of::<u32>());
        self.wait(|state| Box::pin(state.table.poll(pollables))).await
    }
}

impl HostPollable for HostState {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.meter.count(Interface::Poll, 0);
        self.wait(|state| Box::pin(state.table.block(pollable))).await
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.meter.count(Interface::Poll, 0);
        let ready = self.table.ready(pollable).await?;
        if ready {
            // An executor asks this first, and does not poll for what is ready.
            self.control.clock.wait_ends(Duration::ZERO);
        }
        Ok(ready)
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        HostPollable::drop(&mut self.table, pollable)
    }
}

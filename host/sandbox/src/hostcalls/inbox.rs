//! `wasm-worker:agent/inbox`: the job's events.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::{Interface, Own};
use crate::guest::HostState;
use crate::guest::bindings::Receiver;
use crate::guest::bindings::wasm_worker::agent::inbox::{self, Event, Host, HostReceiver, ShutdownRequest};
use crate::guest::control::Control;

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface {
    name: "wasm-worker:agent/inbox",
    add_to_linker: |linker| inbox::add_to_linker::<_, Own>(linker, |state| state),
}];

/// Ready while an event waits.
struct EventReady(Arc<Control>);

#[async_trait]
impl Pollable for EventReady {
    async fn ready(&mut self) {
        self.0.inbox.wait_for_event().await;
    }
}

/// Ready once the job is asked to stop.
struct ShutdownAsked(Arc<Control>);

#[async_trait]
impl Pollable for ShutdownAsked {
    async fn ready(&mut self) {
        self.0.inbox.wait_for_stop().await;
    }
}

impl Host for HostState {
    fn open(&mut self) -> wasmtime::Result<Resource<Receiver>> {
        self.meter.calls.inbox.add(0);
        self.check_handle_allowed("wasm-worker:agent/inbox.open")?;
        Ok(self.table.push(Receiver)?)
    }
}

impl HostReceiver for HostState {
    async fn next(&mut self, _: Resource<Receiver>, timeout_ms: u32) -> wasmtime::Result<Option<Event>> {
        if timeout_ms > 0 {
            let until = Instant::now() + Duration::from_millis(timeout_ms.into());
            self.wait(|state| Box::pin(wait_for_event(&state.control, until))).await?;
        }
        let popped = self.control.inbox.pop();
        self.meter.calls.inbox.add(popped.as_ref().map_or(0, |(_, bytes)| *bytes));
        Ok(popped.map(|(event, _)| event))
    }

    fn subscribe(&mut self, _: Resource<Receiver>) -> wasmtime::Result<Resource<DynPollable>> {
        self.meter.calls.inbox.add(0);
        let ready = self.table.push(EventReady(self.control.clone()))?;
        subscribe(&mut self.table, ready)
    }

    fn shutdown_requested(&mut self, _: Resource<Receiver>) -> wasmtime::Result<Option<ShutdownRequest>> {
        self.meter.calls.inbox.add(0);
        Ok(self.control.inbox.stop_asked())
    }

    fn subscribe_shutdown(&mut self, _: Resource<Receiver>) -> wasmtime::Result<Resource<DynPollable>> {
        self.meter.calls.inbox.add(0);
        let asked = self.table.push(ShutdownAsked(self.control.clone()))?;
        subscribe(&mut self.table, asked)
    }

    fn drop(&mut self, receiver: Resource<Receiver>) -> wasmtime::Result<()> {
        self.table.delete(receiver)?;
        Ok(())
    }
}

async fn wait_for_event(control: &Control, until: Instant) -> wasmtime::Result<()> {
    let sleep = {
        let _timers = control.inbox.timers.enter();
        tokio::time::sleep_until(until)
    };
    tokio::select! {
        biased;
        () = control.inbox.wait_for_event() => {}
        () = sleep => {}
    }
    Ok(())
}

//! A room and the network as the outside of one job.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;
use wasm_worker_core::network::connection::NetworkOpener;
use wasm_worker_core::network::traffic::NetworkUse;
use wasm_worker_core::record::RoomRecord;
use wasm_worker_core::usage::AudioUse;

use super::job_network::JobNetwork;
use super::network_calls::command_of;
use super::world::{JobAccess, World};
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::calls::Call;
use crate::guest::kill::Kill;

/// The outside of one job.
pub(super) struct Networked<R> {
    room: R,
    /// Absent where the agent was granted nothing.
    opener: Option<Arc<dyn NetworkOpener>>,
    /// There from the first call on.
    network: Option<Box<JobNetwork>>,
}

impl<R: World> Networked<R> {
    /// The outside of a job with this room.
    pub(super) fn new(room: R, opener: Option<Arc<dyn NetworkOpener>>) -> Self {
        Self { room, opener, network: None }
    }

    fn known(&mut self, id: u32) -> Option<&mut JobNetwork> {
        self.network.as_deref_mut().filter(|network| network.knows(id))
    }
}

impl<R: World> World for Networked<R> {
    fn launched(&mut self, now: Instant) {
        self.room.launched(now);
    }

    fn perform(&mut self, call: Call, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        match call {
            Call::Cancel { id } if self.known(id).is_some() => {
                self.known(id).into_iter().for_each(|network| network.cancel(id, job));
                Ok(())
            }
            Call::Hold { id, held } if self.known(id).is_some() => {
                self.known(id).into_iter().for_each(|network| network.hold(id, held));
                Ok(())
            }
            call => match command_of(call) {
                Err(call) => self.room.perform(call, job),
                Ok(command) => match &self.opener {
                    None => JobNetwork::refuse(&command, job),
                    Some(opener) => {
                        let open = || Box::new(JobNetwork::open(&**opener));
                        self.network.get_or_insert_with(open).perform(command);
                        Ok(())
                    }
                },
            },
        }
    }

    fn is_given(&mut self, event: &Event, now: Instant) {
        if let Some(network) = &mut self.network {
            network.is_given(event);
        }
        self.room.is_given(event, now);
    }

    fn wake_at(&self) -> Option<Instant> {
        self.room.wake_at()
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let network = self.network.as_mut().map_or(Poll::Pending, |network| network.poll_ready(context));
        if network.is_ready() { network } else { self.room.poll_ready(context) }
    }

    fn advance(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.room.advance(job)?;
        self.network.as_mut().map_or(Ok(()), |network| network.advance(job))
    }

    fn finish(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if let Some(network) = &mut self.network {
            network.finish(job);
        }
        self.room.finish(job)
    }

    fn nothing_to_come(&self) -> Option<&'static str> {
        let is_any_open = self.network.as_ref().is_some_and(|network| network.is_any_open());
        if is_any_open { None } else { self.room.nothing_to_come() }
    }

    fn is_joined(&self) -> bool {
        self.room.is_joined()
    }

    fn is_delivered(&self) -> bool {
        let is_any_open = self.network.as_ref().is_some_and(|network| network.is_any_open());
        !is_any_open && self.room.is_delivered()
    }

    fn network_use(&self) -> NetworkUse {
        self.network.as_ref().map(|network| network.used()).unwrap_or_default()
    }

    fn audio_use(&self) -> AudioUse {
        self.room.audio_use()
    }

    fn bytes_waiting(&self) -> usize {
        let network = self.network.as_ref().map_or(0, |network| network.bytes_waiting());
        network + self.room.bytes_waiting()
    }

    fn into_record(self: Box<Self>) -> RoomRecord {
        Box::new(self.room).into_record()
    }
}

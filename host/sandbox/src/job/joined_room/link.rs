//! The connection to a room, and the commands that it has no space for.
//!
//! Bounds: commands wait only while the room is behind by several steps of the agent, and are charged to the job.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::connection::{CommandRefused, RoomConnection};
use wasm_worker_core::room::event::RoomEvent;

use super::super::world::JobAccess;
use crate::guest::kill::Kill;
use crate::guest::room_view::RoomCounter;

/// The time after which a room that had no space is asked again. It tells nobody that it has some.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// The connection to one room.
pub(super) struct Link {
    connection: Box<dyn RoomConnection>,
    /// Its numbers.
    pub(super) counter: Arc<RoomCounter>,
    /// Commands that wait for space, in order.
    unsent: VecDeque<Command>,
    /// The time of the next attempt.
    retry_at: Option<Instant>,
}

impl Link {
    /// The connection to a room that was opened.
    pub(super) fn new(connection: Box<dyn RoomConnection>) -> Self {
        let counter = Arc::new(RoomCounter::new(connection.numbers()));
        Self { connection, counter, unsent: VecDeque::new(), retry_at: None }
    }

    /// Have the room do something, now or once it has space. What a room that is over is asked for fails with its last event.
    pub(super) fn perform(&mut self, command: Command, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if !self.unsent.is_empty() {
            return self.keep(command, job);
        }
        match self.connection.try_perform(command) {
            Ok(()) | Err(CommandRefused::Over(_)) => Ok(()),
            Err(CommandRefused::Full(command)) => self.keep(command, job),
        }
    }

    fn keep(&mut self, command: Command, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        job.meter.charge(command.bytes())?;
        self.unsent.push_back(command);
        self.retry_at.get_or_insert(job.now + RETRY_AFTER);
        Ok(())
    }

    /// Give the room what waits, as far as it has space.
    pub(super) fn flush(&mut self, job: &mut JobAccess<'_>) {
        if self.retry_at.is_none_or(|at| job.now < at) {
            return;
        }
        self.retry_at = None;
        while let Some(command) = self.unsent.pop_front() {
            let bytes = command.bytes();
            if let Err(CommandRefused::Full(command)) = self.connection.try_perform(command) {
                self.unsent.push_front(command);
                self.retry_at = Some(job.now + RETRY_AFTER);
                return;
            }
            job.meter.release(bytes);
        }
        self.unsent.shrink_to_fit();
    }

    /// The connection is given up: release what waits.
    pub(super) fn close(self, job: &mut JobAccess<'_>) {
        job.meter.release(self.unsent.iter().map(Command::bytes).sum());
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Option<RoomEvent> {
        self.connection.try_next()
    }

    /// Ready once there is an event.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.connection.poll_ready(context)
    }

    /// The time of the next attempt to give the room what waits.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.retry_at
    }
}

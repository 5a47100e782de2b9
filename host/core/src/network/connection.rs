//! The way from a job to the network, whatever is behind it.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::command::Command;
use super::event::NetworkEvent;
use super::traffic::NetworkUse;

/// The network of one agent: its rules, its secrets, and its warm connections, which all of its jobs share.
pub trait NetworkOpener: Send + Sync {
    /// The network for one job. The call does not wait.
    fn open(&self) -> Box<dyn NetworkConnection>;
}

/// The network as one job has it. Dropped, every operation is given up. No function waits.
pub trait NetworkConnection: Send {
    /// Ask for something. A command about an operation that is over or unknown does nothing. A command that begins an operation
    /// whose id is in use does nothing either. What cannot be done is told by an event of the operation. The caller bounds the
    /// operations that it begins before it takes their events.
    fn perform(&mut self, command: Command);

    /// The next event, if there is one.
    fn try_next(&mut self) -> Option<NetworkEvent>;

    /// Ready once [`Self::try_next`] has an event. Else the waker is kept, and woken by the next one.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// The numbers of this job, for others than the job too. The operations are given up without regard to who holds them.
    fn numbers(&self) -> Arc<dyn NetworkNumbers>;
}

/// The numbers of one job's network.
pub trait NetworkNumbers: Send + Sync {
    /// The use so far.
    fn traffic(&self) -> NetworkUse;

    /// Bytes that wait in both directions.
    fn bytes_waiting(&self) -> usize;

    /// Operations that are not over.
    fn open_operations(&self) -> usize;
}

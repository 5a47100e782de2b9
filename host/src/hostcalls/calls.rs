//! How often a guest called its host, and with how many bytes.

use serde::Serialize;

/// The interfaces whose calls are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interface {
    Job,
    Log,
    Inbox,
    Room,
    Usage,
    Clock,
    Random,
    Stdio,
    Poll,
}

/// Calls of one interface, and the bytes they carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Calls from the guest.
    pub calls: u64,
    /// Bytes that went in or out with them.
    pub bytes: u64,
}

impl Calls {
    pub(super) fn add(&mut self, bytes: usize) {
        self.calls += 1;
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

/// Calls by interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostCalls {
    /// `wasm-worker:agent/job`
    pub job: Calls,
    /// `wasm-worker:agent/log`
    pub log: Calls,
    /// `wasm-worker:agent/inbox`
    pub inbox: Calls,
    /// `wasm-worker:agent/room`
    pub room: Calls,
    /// `wasm-worker:agent/usage`
    pub usage: Calls,
    /// `wasi:clocks`
    pub clock: Calls,
    /// `wasi:random`
    pub random: Calls,
    /// `wasi:cli`, and what is written to its streams
    pub stdio: Calls,
    /// `wasi:io/poll`
    pub poll: Calls,
}

impl HostCalls {
    pub(crate) fn count(&mut self, interface: Interface, bytes: usize) {
        let of = match interface {
            Interface::Job => &mut self.job,
            Interface::Log => &mut self.log,
            Interface::Inbox => &mut self.inbox,
            Interface::Room => &mut self.room,
            Interface::Usage => &mut self.usage,
            Interface::Clock => &mut self.clock,
            Interface::Random => &mut self.random,
            Interface::Stdio => &mut self.stdio,
            Interface::Poll => &mut self.poll,
        };
        of.add(bytes);
    }
}

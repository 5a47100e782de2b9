//! Counts the calls from a guest to its host, and their bytes.

use wasm_worker_core::usage::HostCalls;

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

/// Count one call of an interface.
pub(super) fn count(calls: &mut HostCalls, interface: Interface, bytes: usize) {
    let of = match interface {
        Interface::Job => &mut calls.job,
        Interface::Log => &mut calls.log,
        Interface::Inbox => &mut calls.inbox,
        Interface::Room => &mut calls.room,
        Interface::Usage => &mut calls.usage,
        Interface::Clock => &mut calls.clock,
        Interface::Random => &mut calls.random,
        Interface::Stdio => &mut calls.stdio,
        Interface::Poll => &mut calls.poll,
    };
    of.add(bytes);
}

//! The interfaces that a guest may import, one file for each package or interface.
//!
//! Everything that is not a pure function of the job's input reaches the guest through here. No call waits: what takes time is
//! buffered ([`crate::guest::calls`]) and begun after the step.
//!
//! Each file has a table of its [`Interface`]s; the linker and the check of an agent's imports are derived from these tables.
//!
//! Bounds: `hostcall-limit` bytes in one call, `handle-limit` open handles. [`crate::guest`] bounds what calls leave behind.

mod audio;
mod clock;
mod closed;
mod flow;
mod http;
mod io;
mod job;
mod log;
mod random;
mod room;
mod socket;
mod stdio;
mod trace;
mod usage;

use wasmtime::component::{HasSelf, Linker};

use crate::engine::Engine;
use crate::guest::bindings::wasm_worker::agent::events;
use crate::guest::calls::Call;
use crate::guest::{HostState, Part, contract};

/// How the data of an interface is found in a store: it is the store's own data.
type Own = HasSelf<HostState>;

/// One interface that a guest may import.
struct Interface {
    /// Its name, without the version.
    name: &'static str,
    /// Adds its functions to a linker.
    add_to_linker: fn(&mut Linker<HostState>) -> wasmtime::Result<()>,
}

/// Every interface that a guest may import, file by file.
const INTERFACES: [&[Interface]; 15] = [
    &[
        Interface {
            name: "wasm-worker:agent/types",
            add_to_linker: |linker| contract::add_to_linker::<_, Own>(linker, |state| state),
        },
        Interface {
            name: "wasm-worker:agent/events",
            add_to_linker: |linker| events::add_to_linker::<_, Own>(linker, |state| state),
        },
    ],
    job::INTERFACES,
    log::INTERFACES,
    flow::INTERFACES,
    room::INTERFACES,
    audio::INTERFACES,
    http::INTERFACES,
    socket::INTERFACES,
    usage::INTERFACES,
    trace::INTERFACES,
    clock::INTERFACES,
    closed::INTERFACES,
    io::INTERFACES,
    random::INTERFACES,
    stdio::INTERFACES,
];

/// Package of the contract. An agent may import each of its interfaces; the linker says which ones there are.
const CONTRACT: &str = "wasm-worker:agent/";

/// Whether an agent may import this interface. The patch version does not matter.
pub(crate) fn may_import(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let known = || INTERFACES.iter().copied().flatten().any(|known| known.name == interface);
    interface.starts_with(CONTRACT) || (version.starts_with("0.2.") && known())
}

/// A linker with everything that a guest may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = engine.linker::<HostState>();
    for interface in INTERFACES.iter().copied().flatten() {
        (interface.add_to_linker)(&mut linker)?;
    }
    Ok(linker)
}

impl contract::Host for HostState {}
impl events::Host for HostState {}

impl HostState {
    /// Buffer a call that carries these bytes. Outside of a job's steps it does nothing.
    fn buffer(&mut self, carried: usize, call: Call) -> wasmtime::Result<()> {
        if self.part != Part::Job {
            return Ok(());
        }
        let bytes = self.calls.count(carried)?;
        self.meter.charge_call(bytes)?;
        self.calls.push(call);
        Ok(())
    }

    /// Buffer a call that takes a new id, and return the id; outside of a job's steps 0.
    fn begin(&mut self, carried: usize, call: impl FnOnce(u32) -> Call) -> wasmtime::Result<u32> {
        if self.part != Part::Job {
            return Ok(0);
        }
        let id = self.ids.next()?;
        self.buffer(carried, call(id))?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_import_listed_interfaces_of_any_patch_version() {
        assert!(may_import("wasi:cli/exit@0.2.0") && may_import("wasi:io/streams@0.2.99"));
        assert!(may_import("wasm-worker:agent/job@0.1.0"));
        assert!(!may_import("wasi:cli/exit@0.3.0") && !may_import("wasi:cli/exit"));
        assert!(may_import("wasi:filesystem/preopens@0.2.0") && may_import("wasi:sockets/tcp@0.2.12"));
        assert!(!may_import("wasi:filesystem/types@0.3.0") && !may_import("wasi:http/types@0.2.0"));
        let mut names: Vec<_> = INTERFACES.iter().copied().flatten().map(|interface| interface.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "an interface is listed twice");
    }
}

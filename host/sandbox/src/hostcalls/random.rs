//! `wasi:random`: random numbers from the job's seed. Start functions and `prewarm` have a fixed seed.

use rand::Rng;
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::{Interface, Own};
use crate::guest::{HostState, Part};

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[
    Interface {
        name: "wasi:random/insecure",
        add_to_linker: |linker| insecure::add_to_linker::<_, Own>(linker, |state| state),
    },
    Interface {
        name: "wasi:random/insecure-seed",
        add_to_linker: |linker| insecure_seed::add_to_linker::<_, Own>(linker, |state| state),
    },
    Interface {
        name: "wasi:random/random",
        add_to_linker: |linker| random::add_to_linker::<_, Own>(linker, |state| state),
    },
];

impl HostState {
    /// Random bytes for the guest.
    pub(super) fn random_bytes(&mut self, len: usize) -> wasmtime::Result<Vec<u8>> {
        self.meter.within_call("bytes of randomness in one call", len)?;
        self.meter.calls.random.add(len);
        self.note_request();
        let mut bytes = vec![0; len];
        self.random.fill_bytes(&mut bytes);
        Ok(bytes)
    }

    fn random_u64(&mut self) -> u64 {
        self.meter.calls.random.add(size_of::<u64>());
        self.note_request();
        self.random.next_u64()
    }

    fn note_request(&mut self) {
        self.asked_random |= self.part == Part::Prewarm;
    }
}

impl random::Host for HostState {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(usize::try_from(len)?)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random_u64())
    }
}

impl insecure::Host for HostState {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(usize::try_from(len)?)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random_u64())
    }
}

impl insecure_seed::Host for HostState {
    /// Not counted as drawn: hash maps are seeded with it, and may be alike in all jobs.
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        self.meter.calls.random.add(2 * size_of::<u64>());
        Ok((self.random.next_u64(), self.random.next_u64()))
    }
}

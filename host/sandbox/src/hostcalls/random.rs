//! `wasi:random`: random numbers, from a generator of the job's own.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::{Interface, Own};
use crate::guest::HostState;

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
    /// The job's generator, seeded from the operating system at the first call.
    fn generator(&mut self) -> &mut StdRng {
        self.random.get_or_insert_with(|| StdRng::from_rng(&mut rand::rng()))
    }

    fn random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        let len = usize::try_from(len)?;
        self.meter.within_call("bytes of randomness in one call", len)?;
        self.meter.calls.random.add(len);
        let mut bytes = vec![0; len];
        self.generator().fill_bytes(&mut bytes);
        Ok(bytes)
    }

    fn random_u64(&mut self) -> u64 {
        self.meter.calls.random.add(size_of::<u64>());
        self.generator().next_u64()
    }
}

impl random::Host for HostState {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random_u64())
    }
}

impl insecure::Host for HostState {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random_u64())
    }
}

impl insecure_seed::Host for HostState {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random_u64(), self.random_u64()))
    }
}

//! `wasi:random`: numbers that no other job gets.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::HostState;
use super::calls::Interface;

/// One generator a job, seeded from the operating system when first asked.
#[derive(Default)]
pub(crate) struct Random(Option<StdRng>);

impl Random {
    fn generator(&mut self) -> &mut StdRng {
        self.0.get_or_insert_with(|| StdRng::from_rng(&mut rand::rng()))
    }
}

impl HostState {
    fn random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        let len = usize::try_from(len)?;
        self.meter.within_call("bytes of randomness in one call", len)?;
        self.meter.count(Interface::Random, len);
        let mut bytes = vec![0; len];
        self.random.generator().fill_bytes(&mut bytes);
        Ok(bytes)
    }

    fn random_u64(&mut self) -> u64 {
        self.meter.count(Interface::Random, size_of::<u64>());
        self.random.generator().next_u64()
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

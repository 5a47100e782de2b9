//! Random numbers from the host, different in every job.
//!
//! No state is kept between calls, so a snapshot cannot fix the numbers.

use crate::bindings::wasi::random::random;

/// A random number, secure enough for keys.
///
/// ```no_run
/// let dice = wasm_worker_sdk::random::u64() % 6 + 1;
/// ```
pub fn u64() -> u64 {
    random::get_random_u64()
}

/// `len` random bytes, secure enough for keys.
///
/// ```no_run
/// let token = wasm_worker_sdk::random::bytes(16);
/// ```
pub fn bytes(len: usize) -> Vec<u8> {
    random::get_random_bytes(len as u64)
}

//! Random numbers from the host, fresh in every job.
//!
//! Nothing is kept between calls, so a snapshot has nothing to freeze.

use wasip2::random::random;

/// Eight random bytes as a number, fit for keys.
///
/// ```no_run
/// let dice = wasm_worker_sdk::random::u64() % 6 + 1;
/// ```
pub fn u64() -> u64 {
    random::get_random_u64()
}

/// `len` random bytes, fit for keys.
///
/// ```no_run
/// let token = wasm_worker_sdk::random::bytes(16);
/// ```
pub fn bytes(len: usize) -> Vec<u8> {
    random::get_random_bytes(len as u64)
}

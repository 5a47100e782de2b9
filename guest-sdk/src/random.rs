//! Random numbers from the job's seed, different in every job.
//!
//! No state is kept between calls, so a snapshot cannot fix the numbers. In `prewarm` there are none, and asking for one
//! is a panic: every job would have the same.

use crate::calls;

/// Number of bytes in one call of the host.
const CALL_MAX: usize = 64 << 10;

/// A random number, secure enough for keys.
///
/// ```no_run
/// let dice = wasm_worker_sdk::random::u64() % 6 + 1;
/// ```
///
/// # Panics
///
/// In `prewarm`.
pub fn u64() -> u64 {
    draw(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// `len` random bytes, secure enough for keys.
///
/// ```no_run
/// let token = wasm_worker_sdk::random::bytes(16);
/// ```
///
/// # Panics
///
/// In `prewarm`.
pub fn bytes(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        bytes.append(&mut draw(CALL_MAX.min(len - bytes.len())));
    }
    bytes
}

#[expect(clippy::cast_possible_truncation, reason = "no call is larger than `CALL_MAX`")]
fn draw(len: usize) -> Vec<u8> {
    let bytes = calls::random(len as u32);
    assert!(bytes.len() == len, "`prewarm` has no random numbers: each job would get the same");
    bytes
}

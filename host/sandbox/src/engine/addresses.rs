//! The addresses that slots take, against the limit of this process (`ulimit -v`). They are reserved at the start, and are no memory.

use bytesize::ByteSize;

use super::EngineError;

/// Addresses of a slot: a memory of 4 GiB, its guard, a stack and two tables.
const SLOT_BYTES: u64 = (4 << 30) + (64 << 20);
/// Addresses of everything else: threads, libraries, compiled agents.
const OTHER_BYTES: u64 = 2 << 30;

/// Fail when the limit does not allow this many slots.
pub(super) fn check(asked: u32, limit: Option<u64>) -> Result<(), EngineError> {
    let needed = u64::from(asked).saturating_mul(SLOT_BYTES).saturating_add(OTHER_BYTES);
    match limit {
        Some(limit) if needed > limit => Err(EngineError::TooManyAddresses {
            asked,
            needed: ByteSize(needed),
            limit: ByteSize(limit),
            fit: limit.saturating_sub(OTHER_BYTES) / SLOT_BYTES,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_by_the_limit_on_addresses() {
        assert!(check(20_000, None).is_ok());
        assert!(check(1, Some(7 << 30)).is_ok());
        let refused = check(5, Some(20 << 30)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "5 instances at once take 22.3 GiB of addresses, and the limit of this process is 20.0 GiB; at most 4 fit"
        );
        assert!(refused.hint().unwrap().contains("ulimit -v unlimited"));
        assert!(check(1, Some(1 << 20)).is_err());
    }
}

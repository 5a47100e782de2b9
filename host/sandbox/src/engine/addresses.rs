//! The addresses that slots take, against the limit of this process (`ulimit -v`). They are reserved at the start, and are no memory.

use bytesize::ByteSize;

use super::EngineError;

/// Addresses of a slot with one memory: a memory of 4 GiB, its guard, a stack and the tables.
const SLOT_BYTES: u64 = (4 << 30) + (64 << 20);
/// Addresses of each further memory.
const MEMORY_BYTES: u64 = (4 << 30) + (32 << 20);
/// Addresses that a pool may take of the 128 TiB of a process. They are one range, and the program itself lies at 85 TiB or a
/// little above.
const POOL_BYTES_MAX: u64 = 80 << 40;
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

/// Memories of each slot: as many as `most`, where the addresses suffice, and one at least. An empty memory takes addresses only.
pub(super) fn memories_per_slot(slots: u32, most: u32, limit: Option<u64>) -> u32 {
    let room = limit.map_or(POOL_BYTES_MAX, |limit| limit.saturating_sub(OTHER_BYTES).min(POOL_BYTES_MAX));
    let bytes = |memories: u32| {
        let slot = u64::from(memories - 1).saturating_mul(MEMORY_BYTES).saturating_add(SLOT_BYTES);
        slot.saturating_mul(slots.into())
    };
    (2..=most).rev().find(|memories| bytes(*memories) <= room).unwrap_or(1)
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

    #[test]
    fn slots_have_further_memories_where_the_addresses_suffice() {
        assert_eq!(memories_per_slot(1_000, 3, None), 3);
        assert_eq!(memories_per_slot(6_700, 3, None), 3);
        assert_eq!(memories_per_slot(8_000, 3, None), 2);
        assert_eq!(memories_per_slot(12_000, 3, None), 1);
        assert_eq!(memories_per_slot(20_000, 3, None), 1);
        // A limit that allows the slots with one memory each still does.
        assert_eq!(memories_per_slot(4, 3, Some(20 << 30)), 1);
        assert_eq!(memories_per_slot(4, 3, Some(40 << 30)), 2);
        assert_eq!(memories_per_slot(4, 3, Some(60 << 30)), 3);
    }
}

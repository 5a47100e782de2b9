//! The memory mappings that instances take, against the kernel's limit for one process (`vm.max_map_count`).

use super::EngineError;

/// Mappings of an instance: a stack and its guard, a memory and its reserved rest. Counted in `/proc/PID/maps` with 1,000 to
/// 12,000 waiting jobs.
pub(crate) const MAPPINGS_MIN: u32 = 4;
/// Most mappings of an instance with a snapshot: also one before and one after the snapshot's pages.
pub const MAPPINGS_MAX: u32 = MAPPINGS_MIN + 2;
/// Most mappings of each further memory: before the snapshot's pages, these, after them, and the reserved rest.
pub(crate) const MAPPINGS_PER_MEMORY_MAX: u32 = 4;
/// Smallest page. On larger pages, an address in the first of these is in the first page too.
const PAGE_BYTES_MIN: usize = 4 << 10;
/// Mappings for everything else: threads, libraries, compiled agents.
const MAPPINGS_RESERVED: u32 = 1_000;

/// Mappings of one instance with this memory. A snapshot is not mapped before its first byte that is not zero.
pub(crate) fn mappings_of(memory: &[u8]) -> u32 {
    match memory.iter().position(|byte| *byte != 0) {
        None => MAPPINGS_MIN,
        Some(first) if first < PAGE_BYTES_MIN => MAPPINGS_MIN + 1,
        Some(_) => MAPPINGS_MAX,
    }
}

/// The number of instances that one process has memory mappings for.
pub fn instances_that_fit(mappings_each: u32) -> u32 {
    fit_within(limit(), mappings_each).min(super::SLOTS_MAX)
}

/// Fail when `instances` of this size exceed the kernel's limit: otherwise some job fails in the middle.
pub(super) fn check(instances: u32, mappings_each: u32) -> Result<(), EngineError> {
    check_within(instances, mappings_each, limit())
}

fn fit_within(limit: u32, mappings_each: u32) -> u32 {
    limit.saturating_sub(MAPPINGS_RESERVED) / mappings_each
}

/// The kernel's limit on the mappings of one process; the largest number where it cannot be read.
fn limit() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX)
}

fn check_within(asked: u32, mappings_each: u32, limit: u32) -> Result<(), EngineError> {
    let needed = asked.saturating_mul(mappings_each).saturating_add(MAPPINGS_RESERVED);
    if needed <= limit {
        return Ok(());
    }
    Err(EngineError::TooManyMappings { asked, needed, limit, fit: fit_within(limit, mappings_each) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_by_the_mappings_of_the_kernel() {
        assert!(check_within(10_755, 6, 65_530).is_ok());
        let refused = check_within(10_756, 6, 65_530).unwrap_err();
        assert!(matches!(refused, EngineError::TooManyMappings { needed: 65_536, fit: 10_755, .. }), "{refused}");
        assert!(refused.hint().unwrap().contains("vm.max_map_count=65536"));
        assert!(check_within(12_906, 5, 65_530).is_ok());
        assert!(check_within(1, 4, 500).is_err());
        assert!(check_within(super::super::SLOTS_MAX, 6, u32::MAX).is_ok());
    }

    #[test]
    fn snapshot_at_the_begin_of_its_memory_has_no_mapping_before_it() {
        let mut memory = vec![0; 1 << 16];
        assert_eq!(mappings_of(&memory), 4);
        memory[40_000] = 1;
        assert_eq!(mappings_of(&memory), 6);
        memory[16] = 1;
        assert_eq!(mappings_of(&memory), 5);
    }
}

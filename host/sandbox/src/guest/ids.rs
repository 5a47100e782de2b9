//! The ids of one job: one sequence from 1, and the ids that have not ended.
//!
//! An id is open from the beginning of its call, or from the delivery of the event that begins it, until its last event is
//! delivered or the guest cancels it.
//!
//! Bounds: beyond [`OPEN_MAX`] open ids each further call fails at once, and its id is open until the guest has learnt of it.
//! Each open id is charged [`ID_BYTES`].

use std::collections::BTreeSet;

use super::kill::Kill;

/// Open ids beyond which further calls fail.
pub(crate) const OPEN_MAX: usize = 4_096;
/// Memory that an open id takes, with its part of the tree and what a world keeps for it.
pub(crate) const ID_BYTES: usize = 64;

/// The ids of one job.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    last: u32,
    open: BTreeSet<u32>,
}

impl Ids {
    /// The next number.
    pub(crate) fn next(&mut self) -> Result<u32, Kill> {
        self.last = self.last.checked_add(1).ok_or(Kill::TooMany { what: "ids" })?;
        Ok(self.last)
    }

    /// Open an id. Whether there is room for what it names.
    pub(crate) fn open(&mut self, id: u32) -> bool {
        self.open.insert(id);
        self.open.len() <= OPEN_MAX
    }

    /// Close an id. Whether it was open.
    pub(crate) fn close(&mut self, id: u32) -> bool {
        self.open.remove(&id)
    }

    /// Whether an id is open.
    pub(crate) fn is_open(&self, id: u32) -> bool {
        self.open.contains(&id)
    }

    /// The number of open ids.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_from_one_and_end_once() {
        let mut ids = Ids::default();
        assert_eq!((ids.next(), ids.next()), (Ok(1), Ok(2)));
        assert!(ids.open(1) && ids.is_open(1) && !ids.is_open(2));
        assert!(ids.close(1) && !ids.close(1));
        assert_eq!(ids.next(), Ok(3), "no number comes twice");
    }

    #[test]
    fn there_is_room_for_a_bounded_number() {
        let mut ids = Ids::default();
        let opened = (0..2 * OPEN_MAX).filter(|_| {
            let id = ids.next().unwrap();
            ids.open(id)
        });
        assert_eq!(opened.count(), OPEN_MAX);
        ids.last = u32::MAX;
        assert_eq!(ids.next(), Err(Kill::TooMany { what: "ids" }));
    }
}

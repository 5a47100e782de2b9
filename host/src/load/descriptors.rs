//! Descriptors of the process (open files and sockets), against its limit (`RLIMIT_NOFILE`).
//!
//! A room takes some. A job that is not in its room yet keeps as many in reserve: it may join at any time.

use wasm_worker_dispatcher::connections::raise_file_limit;

/// Descriptors of one room: its link, UDP of both families, and TCP, or a second link while it reconnects.
pub(crate) const DESCRIPTORS_OF_ROOM: usize = 4;
/// Descriptors for everything else that opens some between two readings: callers, files, sinks, the cache.
const HEADROOM: usize = 64;
/// The list of the process's own descriptors.
const OPEN: &str = "/proc/self/fd";
/// Every so many calls are a reading: one takes a millisecond where thousands are open.
const READ_EVERY: u32 = 5;

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    open: usize,
    limit: usize,
    /// The jobs that were in their rooms.
    in_rooms: usize,
}

impl Descriptors {
    /// A reading of a process with so many open descriptors, and so many rooms among them.
    pub(crate) fn new(open: usize, limit: usize, in_rooms: usize) -> Self {
        Self { open, limit, in_rooms }
    }

    /// Check that there are enough for so many jobs with a room.
    ///
    /// # Errors
    /// The figures, where there are not.
    pub(crate) fn check(&self, with_room: usize) -> Result<(), String> {
        let Self { open, limit, in_rooms } = *self;
        let kept = with_room.saturating_sub(in_rooms).saturating_mul(DESCRIPTORS_OF_ROOM);
        if open.saturating_add(kept).saturating_add(HEADROOM) <= limit {
            return Ok(());
        }
        Err(format!(
            "the process may open {limit} files and sockets, {open} are open, and {kept} are kept for rooms that are not joined yet; raise the limit: `ulimit -n`, or `LimitNOFILE` in the unit"
        ))
    }

    /// The open descriptors, and the most that there may be.
    pub(crate) fn used(self) -> (usize, usize) {
        (self.open, self.limit)
    }
}

/// Reads the descriptors of the process.
#[derive(Debug)]
pub(crate) struct DescriptorMonitor {
    limit: usize,
    calls: u32,
    /// None where the system lists none.
    last: Option<Descriptors>,
}

impl DescriptorMonitor {
    /// A monitor. The limit is raised to the most that the process may have.
    pub(crate) fn new() -> Self {
        Self { limit: raise_file_limit(), calls: 0, last: None }
    }

    /// The last reading, or one of now, when so many jobs are in their rooms.
    pub(crate) fn sample(&mut self, in_rooms: usize) -> Option<Descriptors> {
        if self.calls.is_multiple_of(READ_EVERY) {
            let open = std::fs::read_dir(OPEN).ok().map(Iterator::count);
            self.last = open.map(|open| Descriptors::new(open, self.limit, in_rooms));
        }
        self.calls = self.calls.wrapping_add(1);
        self.last
    }
}

/// The rooms that the descriptors of one process suffice for.
pub(crate) fn rooms_that_fit() -> u32 {
    let rooms = raise_file_limit().saturating_sub(2 * HEADROOM) / DESCRIPTORS_OF_ROOM;
    u32::try_from(rooms).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_that_are_not_joined_keep_their_share() {
        let reading = Descriptors::new(100, 200, 10);
        assert_eq!(reading.check(19), Ok(()));
        let refused = reading.check(20).unwrap_err();
        for part in ["may open 200 ", "100 are open", "40 are kept"] {
            assert!(refused.contains(part), "{refused}");
        }
        assert_eq!(Descriptors::new(136, 200, 10).check(3), Ok(()), "joined rooms are among the open ones");
        assert!(Descriptors::new(137, 200, 10).check(3).is_err());
    }

    #[test]
    fn this_process_has_descriptors() {
        let mut monitor = DescriptorMonitor::new();
        let (open, limit) = monitor.sample(0).unwrap().used();
        assert!(open > 2 && limit >= open, "{open} of {limit}");
        let more: Vec<_> = (0..40).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let later = (0..READ_EVERY).map(|_| monitor.sample(7).unwrap()).last().unwrap();
        assert_eq!(later.in_rooms, 7);
        drop(more);
        // Other tests open and close some too.
        assert!(later.open >= 40, "{later:?}");
    }
}

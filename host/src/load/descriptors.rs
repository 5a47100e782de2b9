//! Descriptors of the process (open files and sockets), against its limit (`RLIMIT_NOFILE`).
//!
//! A room takes some. A job that is not in its room yet keeps as many in reserve: it may join at any time.

use wasm_worker_dispatcher::connections::raise_file_limit;

/// Descriptors that are kept for a room: its link, UDP of both families, and one connection of TCP or a second link. A room that
/// changes its server and its way to it may have nine for some seconds.
pub(crate) const DESCRIPTORS_OF_ROOM: usize = 4;
/// Descriptors for everything else that opens some between two readings: callers, files, sinks, the cache.
pub(crate) const HEADROOM: usize = 64;
/// The list of the process's own descriptors.
const OPEN: &str = "/proc/self/fd";
/// Every so many calls are a reading: one takes a millisecond where thousands are open.
const READ_EVERY: u32 = 5;

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    open: usize,
    limit: usize,
    /// The rooms that were open.
    rooms: usize,
}

impl Descriptors {
    /// A reading of a process with so many open descriptors, and so many rooms among them.
    pub(crate) fn new(open: usize, limit: usize, rooms: usize) -> Self {
        Self { open, limit, rooms }
    }

    /// Whether there are enough for so many jobs with a room.
    pub(crate) fn suffice(self, with_room: usize) -> bool {
        self.open.saturating_add(self.kept(with_room)).saturating_add(HEADROOM) <= self.limit
    }

    /// The figures of a shortage, and what helps.
    pub(crate) fn shortage(self, with_room: usize) -> String {
        let (Self { open, limit, .. }, kept) = (self, self.kept(with_room));
        format!(
            "the process may open {limit} files and sockets, {open} are open, and {kept} are kept for rooms that are not joined yet; raise the limit: `ulimit -n`, or `LimitNOFILE` in the unit"
        )
    }

    /// Those of rooms that are not open yet.
    const fn kept(self, with_room: usize) -> usize {
        with_room.saturating_sub(self.rooms).saturating_mul(DESCRIPTORS_OF_ROOM)
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

    /// The last reading, or one of now, when so many rooms are open.
    pub(crate) async fn sample(&mut self, rooms: usize) -> Option<Descriptors> {
        if self.calls.is_multiple_of(READ_EVERY) {
            let count = || std::fs::read_dir(OPEN).ok().map(Iterator::count);
            let open = tokio::task::spawn_blocking(count).await.ok().flatten();
            self.last = open.map(|open| Descriptors::new(open, self.limit, rooms));
        }
        self.calls = self.calls.wrapping_add(1);
        self.last
    }
}

/// The rooms that the descriptors of this process suffice for.
pub(crate) fn rooms_that_fit() -> u32 {
    u32::try_from(rooms_of(raise_file_limit())).unwrap_or(u32::MAX)
}

/// The rooms that a limit suffices for, beside what is open anyway and what is opened between two readings.
pub(crate) const fn rooms_of(limit: usize) -> usize {
    limit.saturating_sub(2 * HEADROOM) / DESCRIPTORS_OF_ROOM
}

/// The limit that suffices for so many rooms.
pub(crate) const fn limit_for(rooms: usize) -> usize {
    rooms.saturating_mul(DESCRIPTORS_OF_ROOM).saturating_add(2 * HEADROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_that_are_not_joined_keep_their_share() {
        let reading = Descriptors::new(100, 200, 10);
        assert!(reading.suffice(19) && !reading.suffice(20));
        let refused = reading.shortage(20);
        for part in ["may open 200 ", "100 are open", "40 are kept"] {
            assert!(refused.contains(part), "{refused}");
        }
        assert!(Descriptors::new(136, 200, 10).suffice(3), "open rooms are among the open ones");
        assert!(!Descriptors::new(137, 200, 10).suffice(3));
        assert_eq!(rooms_of(limit_for(1_000)), 1_000);
        assert_eq!(rooms_of(limit_for(1_000) - 1), 999);
    }

    #[tokio::test]
    async fn this_process_has_descriptors() {
        let mut monitor = DescriptorMonitor::new();
        let (open, limit) = monitor.sample(0).await.unwrap().used();
        assert!(open > 2 && limit >= open, "{open} of {limit}");
        let more: Vec<_> = (0..40).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        for _ in 0..READ_EVERY {
            monitor.sample(7).await.unwrap();
        }
        let later = monitor.last.unwrap();
        assert_eq!(later.rooms, 7);
        drop(more);
        // Other tests open and close some too.
        assert!(later.open >= 40, "{later:?}");
    }
}

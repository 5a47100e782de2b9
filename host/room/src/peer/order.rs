//! The order of the packets of sound on one line, by the numbers of RTP. Pure.
//!
//! A packet waits for missing ones before it: for [`WAITS_FOR`], or until [`WAITING_MAX`] packets wait. `str0m` can do the same, but keeps
//! its numbers when another source takes over the line. It then drops all packets with lower numbers, which lasts minutes at worst.
//!
//! Bounds: [`WAITING_MAX`] packets.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// When so many packets wait, the first one goes on.
const WAITING_MAX: usize = 4;
/// Longest time that a packet waits.
const WAITS_FOR: Duration = Duration::from_millis(60);
/// A packet that is further back comes from another source: `str0m` drops those of the same one (`rtp/seq_no_window.rs`).
const BACK_MAX: u64 = 128;

/// A packet of sound from the server.
#[derive(Debug)]
pub(crate) struct SoundPacket {
    /// Opus.
    pub(crate) payload: Arc<[u8]>,
    /// The time of RTP, extended, in 1/48,000 s.
    pub(crate) time: u64,
    /// Whether no packet is missing before it.
    pub(crate) contiguous: bool,
    /// When it came.
    pub(crate) received_at: Instant,
}

/// The packets of a line.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The number of the packet that comes next, if nothing is missing.
    next: Option<u64>,
    /// With their numbers, which rise. The space stays, because each packet passes here.
    waiting: Vec<(u64, SoundPacket)>,
}

impl Order {
    /// A packet with this number came. One whose turn is over is dropped.
    pub(super) fn take(&mut self, number: u64, packet: SoundPacket) {
        if self.next.is_some_and(|next| number.saturating_add(BACK_MAX) < next) {
            self.next = None;
            self.waiting.clear();
        }
        if self.next.is_none_or(|next| number >= next)
            && let Err(at) = self.waiting.binary_search_by_key(&number, |(waiting, _)| *waiting)
        {
            self.waiting.insert(at, (number, packet));
        }
    }

    /// The next packet whose turn it is.
    pub(super) fn next(&mut self, now: Instant) -> Option<SoundPacket> {
        let number = self.waiting.first()?.0;
        let follows = self.next.is_none_or(|next| number == next);
        let is_due = self.wake_at().is_some_and(|due| due <= now);
        if !follows && !is_due && self.waiting.len() < WAITING_MAX {
            return None;
        }
        let (_, packet) = self.waiting.remove(0);
        self.next = Some(number.saturating_add(1));
        Some(SoundPacket { contiguous: follows, ..packet })
    }

    /// When one of them has waited for long enough.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.waiting.iter().map(|(_, packet)| packet.received_at + WAITS_FOR).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that come out, a star behind those that something is missing before, where these come in one after another.
    fn passed(order: &mut Order, numbers: &[u64], now: Instant) -> Vec<String> {
        let mut passed = Vec::new();
        for number in numbers {
            order.take(*number, packet(*number, now));
            passed.extend(due(order, now));
        }
        passed
    }

    fn due(order: &mut Order, now: Instant) -> Vec<String> {
        let told = |packet: SoundPacket| format!("{}{}", packet.time, if packet.contiguous { "" } else { "*" });
        std::iter::from_fn(|| order.next(now).map(told)).collect()
    }

    fn packet(number: u64, received_at: Instant) -> SoundPacket {
        SoundPacket { payload: [1][..].into(), time: number, contiguous: false, received_at }
    }

    #[test]
    fn packets_come_out_in_order_and_the_missing_are_waited_for() {
        let (mut order, now) = (Order::default(), Instant::now());
        assert_eq!(passed(&mut order, &[7, 8, 10, 9, 9, 8, 11], now), ["7", "8", "9", "10", "11"]);
        // One is missing: the third behind it is the last that waits.
        assert_eq!(passed(&mut order, &[13, 14, 15], now), Vec::<String>::new());
        assert_eq!(passed(&mut order, &[16, 12], now), ["13*", "14", "15", "16"]);
        assert_eq!(passed(&mut order, &[18], now), Vec::<String>::new());
        assert_eq!(order.wake_at(), Some(now + WAITS_FOR));
        assert_eq!(due(&mut order, now + WAITS_FOR), ["18*"]);
        assert_eq!(order.wake_at(), None);
        // One that is very late changes nothing.
        let all: Vec<u64> = (19..200).chain([140, 200]).collect();
        let passed = passed(&mut order, &all, now);
        assert!(passed.len() == 182 && passed.iter().all(|told| !told.ends_with('*')), "{passed:?}");
    }

    #[test]
    fn no_packet_waits_longer_than_the_first_that_came() {
        let (mut order, now) = (Order::default(), Instant::now());
        order.take(10, packet(10, now));
        assert_eq!(due(&mut order, now), ["10"]);
        for (number, ms) in [(14, 0), (13, 50), (12, 55)] {
            order.take(number, packet(number, now + Duration::from_millis(ms)));
            assert_eq!(due(&mut order, now + Duration::from_millis(ms)), Vec::<String>::new());
        }
        assert_eq!(order.wake_at(), Some(now + WAITS_FOR));
        assert_eq!(due(&mut order, now + WAITS_FOR), ["12*", "13", "14"]);
    }

    #[test]
    fn a_source_may_begin_anywhere() {
        let (mut order, now) = (Order::default(), Instant::now());
        assert_eq!(passed(&mut order, &[30_000, 30_001, 1, 2], now), ["30000", "30001", "1", "2"]);
        assert_eq!(passed(&mut order, &[60_000, 60_001, 60_002, 60_003], now), ["60000*", "60001", "60002", "60003"]);
        let most = passed(&mut order, &[u64::MAX, u64::MAX - 1, u64::MAX - 2, u64::MAX - 3], now);
        assert_eq!(most.len(), 4, "{most:?}");
    }
}

//! The reliable packets that wait for one participant. Pure.
//!
//! Bounds: [`BYTES_MAX`], and [`PACKETS_MAX`]. A participant that falls further behind is put out of the room, so that it costs the
//! others no memory and no time.

use std::collections::VecDeque;
use std::sync::Arc;

/// Most bytes that wait for one participant. The packets of a broadcast are shared.
const BYTES_MAX: usize = 8 << 20;
/// Most packets that wait for one participant.
const PACKETS_MAX: usize = 16_384;

/// The packets that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    packets: VecDeque<Arc<[u8]>>,
    bytes: usize,
}

impl Outbox {
    /// Add a packet. Returns whether there was space.
    pub(super) fn put(&mut self, packet: Arc<[u8]>) -> bool {
        if self.packets.len() >= PACKETS_MAX || self.bytes + packet.len() > BYTES_MAX {
            return false;
        }
        self.bytes += packet.len();
        self.packets.push_back(packet);
        true
    }

    /// The packet that comes next.
    pub(super) fn front(&self) -> Option<&Arc<[u8]>> {
        self.packets.front()
    }

    /// Remove the packet that comes next: it is on its way.
    pub(super) fn pop(&mut self) {
        if let Some(packet) = self.packets.pop_front() {
            self.bytes -= packet.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_in_order_and_are_bounded() {
        let mut outbox = Outbox::default();
        let large: Arc<[u8]> = vec![0; 1 << 20].into();
        for _ in 0..8 {
            assert!(outbox.put(large.clone()));
        }
        assert!(!outbox.put(vec![1].into()));
        outbox.pop();
        assert!(outbox.put(vec![1].into()));
        for _ in 0..7 {
            outbox.pop();
        }
        assert_eq!((outbox.front().map(|packet| packet.len()), outbox.bytes), (Some(1), 1));
        outbox.pop();
        outbox.pop();
        assert_eq!((outbox.front(), outbox.bytes), (None, 0));
        for _ in 0..PACKETS_MAX {
            assert!(outbox.put(vec![1].into()));
        }
        assert!(!outbox.put(vec![1].into()));
    }
}

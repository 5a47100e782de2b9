//! The memory of reliable packets: their sequence, what the server has acknowledged, and what is sent again after a resume. Pure.
//!
//! Bounds: [`WINDOW_BYTES`] and one packet wait for an acknowledgement, and [`KEPT_BYTES_MAX`] are kept after it for [`KEPT_FOR`].

use std::collections::VecDeque;

use livekit_protocol as proto;
use prost::Message;
use tokio::time::Instant;

use super::limits::{KEPT_BYTES_MAX, KEPT_FOR, WINDOW_BYTES};
use wasm_worker_core::room::command::OperationId;

/// The reliable packets of one session with the server.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Packets in the order of their sequences, which have no gaps.
    packets: VecDeque<Packet>,
    /// The sequence of the last packet; 0 before the first. It does not come to its end: that are 50 days of 1,000 packets a
    /// second.
    last: u32,
    /// The last sequence that the server has acknowledged.
    acknowledged: u32,
    /// Bytes of the acknowledged packets that are kept.
    kept_bytes: usize,
    /// What the channel holds, in order: the sequences, and the bytes of their packets. The sequence is 0 where the packet is sent
    /// again: a server that lost an earlier one may not read this copy.
    channel: VecDeque<(u32, usize)>,
    /// Bytes in `channel`.
    channel_bytes: usize,
    /// The next packet to send again.
    again: Option<u32>,
    /// The last packet that ends an operation, and the last for which an acknowledgement was hastened.
    last_end: u32,
    hastened: u32,
}

#[derive(Debug)]
struct Packet {
    packet: proto::DataPacket,
    bytes: usize,
    /// The operation that ends with this packet.
    ends: Option<OperationId>,
    /// The time of its acknowledgement.
    acknowledged_at: Option<Instant>,
}

/// What a resume found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resumed {
    /// Operations whose last packet the server has.
    pub(super) ended: Vec<OperationId>,
    /// Packets that the server does not have and that are not kept any more.
    pub(super) missing: u32,
}

impl Sent {
    /// Whether the channel may be given another packet.
    pub(super) const fn has_room(&self) -> bool {
        self.channel_bytes < WINDOW_BYTES
    }

    /// Give a new packet its sequence, and remember it.
    pub(super) fn hand_over(&mut self, mut packet: proto::DataPacket, ends: Option<OperationId>) -> proto::DataPacket {
        self.last = self.last.saturating_add(1);
        packet.sequence = self.last;
        let bytes = packet.encoded_len();
        if ends.is_some() {
            self.last_end = self.last;
        }
        self.enter(self.last, bytes);
        self.packets.push_back(Packet { packet: packet.clone(), bytes, ends, acknowledged_at: None });
        packet
    }

    /// The next packet that is sent again.
    pub(super) fn next_again(&mut self) -> Option<proto::DataPacket> {
        let sequence = self.again?;
        self.again = (sequence < self.last).then(|| sequence.saturating_add(1));
        let index = sequence.checked_sub(self.first())?;
        let Packet { packet, bytes, .. } = self.packets.get(usize::try_from(index).ok()?)?;
        let (packet, bytes) = (packet.clone(), *bytes);
        self.enter(sequence, bytes);
        Some(packet)
    }

    /// Whether something is to be sent again.
    pub(super) const fn has_again(&self) -> bool {
        self.again.is_some()
    }

    /// Whether an operation waits for an acknowledgement that has not been hastened. It is by now.
    pub(super) fn hasten(&mut self) -> bool {
        let waits = self.last_end > self.acknowledged.max(self.hastened);
        self.hastened = self.last_end;
        waits
    }

    /// The channel did not take the packet that was handed over last.
    pub(super) fn refused(&mut self) {
        if let Some((sequence, bytes)) = self.channel.pop_back() {
            self.channel_bytes -= bytes;
            // A copy that is sent again anyway has no sequence.
            self.again = if sequence == 0 { self.again } else { Some(sequence) };
        }
    }

    /// The channel holds so many bytes that the server has not acknowledged. Returns the operations that ended.
    pub(super) fn drained(&mut self, unacknowledged: usize, now: Instant) -> Vec<OperationId> {
        let mut acknowledged = 0;
        while let Some((sequence, bytes)) = self.channel.front().copied()
            && self.channel_bytes - bytes >= unacknowledged
        {
            self.channel.pop_front();
            self.channel_bytes -= bytes;
            acknowledged = acknowledged.max(sequence);
        }
        self.acknowledge(acknowledged, now)
    }

    /// The session goes on, and the server has read the packets up to this sequence.
    pub(super) fn resumed(&mut self, heard: u32, now: Instant) -> Resumed {
        let heard = heard.min(self.last);
        let ended = self.acknowledge(heard, now);
        let (wanted, first) = (heard.saturating_add(1), self.first());
        let again = wanted.max(first);
        // The channel acknowledged what the server did not read: that is open again.
        for sent in self.packets.iter_mut().skip(usize::try_from(again - first).unwrap_or(usize::MAX)) {
            if sent.acknowledged_at.take().is_some() {
                self.kept_bytes -= sent.bytes;
            }
        }
        for (sequence, _) in &mut self.channel {
            *sequence = 0;
        }
        self.acknowledged = again - 1;
        self.again = (again <= self.last).then_some(again);
        Resumed { ended, missing: first.saturating_sub(wanted) }
    }

    /// Begin a new session. Returns the packets that the server has not acknowledged.
    pub(super) fn reset(&mut self) -> Vec<proto::DataPacket> {
        let Self { packets, .. } = std::mem::take(self);
        packets.into_iter().filter(|sent| sent.acknowledged_at.is_none()).map(|sent| sent.packet).collect()
    }

    /// Whether the server has everything.
    pub(super) const fn is_all_acknowledged(&self) -> bool {
        self.acknowledged == self.last && self.again.is_none()
    }

    /// The next time at which packets are forgotten.
    pub(super) fn forget_at(&self) -> Option<Instant> {
        Some(self.packets.front()?.acknowledged_at? + KEPT_FOR)
    }

    /// Forget the packets that need not be kept. Those that are sent again are not acknowledged.
    pub(super) fn forget(&mut self, now: Instant) {
        while let Some(first) = self.packets.front()
            && let Some(at) = first.acknowledged_at
            && (self.kept_bytes > KEPT_BYTES_MAX || at + KEPT_FOR <= now)
        {
            self.kept_bytes -= first.bytes;
            self.packets.pop_front();
        }
        if self.packets.is_empty() {
            self.packets.shrink_to_fit();
            self.channel.shrink_to_fit();
        }
    }

    /// Bytes of the packets in memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.packets.iter().map(|sent| sent.bytes).sum()
    }

    fn enter(&mut self, sequence: u32, bytes: usize) {
        self.channel.push_back((sequence, bytes));
        self.channel_bytes += bytes;
    }

    /// The sequence of the first packet in memory, or of the next one.
    fn first(&self) -> u32 {
        let kept = u32::try_from(self.packets.len()).unwrap_or(u32::MAX);
        self.last.saturating_sub(kept).saturating_add(1)
    }

    fn acknowledge(&mut self, sequence: u32, now: Instant) -> Vec<OperationId> {
        let news = sequence.saturating_sub(self.acknowledged);
        let known = self.acknowledged.saturating_add(1).saturating_sub(self.first());
        let (skipped, count) = (usize::try_from(known), usize::try_from(news));
        let mut ended = Vec::new();
        for sent in self.packets.iter_mut().skip(skipped.unwrap_or_default()).take(count.unwrap_or_default()) {
            sent.acknowledged_at = Some(now);
            self.kept_bytes += sent.bytes;
            ended.extend(sent.ends.take());
        }
        self.acknowledged = self.acknowledged.max(sequence);
        self.forget(now);
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(bytes: usize) -> proto::DataPacket {
        let user = proto::UserPacket { payload: vec![0; bytes], ..Default::default() };
        proto::DataPacket { value: Some(proto::data_packet::Value::User(user)), ..Default::default() }
    }

    fn hand_over(sent: &mut Sent, bytes: usize, ends: OperationId) -> usize {
        let packet = sent.hand_over(packet(bytes), Some(ends));
        assert_eq!(packet.sequence, ends);
        packet.encoded_len()
    }

    #[test]
    fn the_channel_is_given_a_window() {
        let (mut sent, now) = (Sent::default(), Instant::now());
        let mut handed = 0;
        while sent.has_room() {
            let id = sent.last + 1;
            handed += hand_over(&mut sent, 10_000, id);
        }
        assert!((WINDOW_BYTES..WINDOW_BYTES + 11_000).contains(&handed));
        assert!(sent.drained(handed, now).is_empty());
        assert!(sent.drained(handed - 10_000, now).is_empty(), "not the whole packet");
        assert_eq!(sent.drained(handed - 10_020, now), [1]);
        assert!(sent.has_room() && !sent.is_all_acknowledged());
        let waiting = sent.packets.len() - 1;
        assert_eq!(sent.drained(0, now).len(), waiting);
        assert!(sent.is_all_acknowledged());
    }

    #[test]
    fn what_the_server_did_not_read_is_sent_again() {
        let (mut sent, now) = (Sent::default(), Instant::now());
        (1..=5).for_each(|id| {
            hand_over(&mut sent, 10, id);
        });
        assert_eq!(sent.drained(0, now), [1, 2, 3, 4, 5]);
        assert_eq!(sent.resumed(3, now), Resumed::default());
        let again: Vec<u32> = std::iter::from_fn(|| sent.next_again()).map(|packet| packet.sequence).collect();
        assert_eq!(again, [4, 5]);
        sent.refused();
        assert_eq!(sent.next_again().unwrap().sequence, 5);
        hand_over(&mut sent, 10, 6);
        assert_eq!(sent.drained(0, now), [6]);
        sent.forget(now + KEPT_FOR);
        assert_eq!((sent.bytes(), sent.forget_at()), (0, None));
        assert_eq!(sent.resumed(4, now), Resumed { ended: Vec::new(), missing: 2 });
        assert_eq!(sent.next_again(), None);
    }

    #[test]
    fn a_resume_acknowledges_what_the_channel_does_not() {
        let (mut sent, now) = (Sent::default(), Instant::now());
        (1..=3).for_each(|id| {
            hand_over(&mut sent, 10, id);
        });
        assert_eq!(sent.resumed(2, now).ended, [1, 2]);
        assert_eq!(sent.next_again().unwrap().sequence, 3);
        assert_eq!(sent.drained(0, now), [3]);
        assert_eq!(sent.resumed(99, now), Resumed::default(), "more than was sent");
        assert!(sent.is_all_acknowledged());
    }

    #[test]
    fn copies_from_before_a_resume_acknowledge_nothing() {
        let (mut sent, now) = (Sent::default(), Instant::now());
        let bytes: usize = (1..=3).map(|id| hand_over(&mut sent, 10, id)).sum();
        sent.resumed(0, now);
        while sent.next_again().is_some() {}
        assert!(sent.drained(bytes, now).is_empty(), "a server that lost the first does not read them");
        assert_eq!(sent.drained(0, now), [1, 2, 3]);
    }

    #[test]
    fn acknowledged_packets_are_kept_within_bounds() {
        let (mut sent, now) = (Sent::default(), Instant::now());
        for id in 1..=100 {
            hand_over(&mut sent, 10_000, id);
            sent.drained(0, now);
            assert!(sent.bytes() <= KEPT_BYTES_MAX);
        }
        assert_eq!(sent.resumed(0, now).missing, 94);
        assert_eq!(sent.next_again().unwrap().sequence, 95);
    }

    #[test]
    fn a_new_session_begins_with_what_was_not_acknowledged() {
        let (mut sent, now) = (Sent::default(), Instant::now());
        let first = hand_over(&mut sent, 10, 1);
        let second = hand_over(&mut sent, 20, 2);
        sent.drained(second, now);
        let open: Vec<usize> = sent.reset().iter().map(Message::encoded_len).collect();
        assert_eq!((open, first), (vec![second], first));
        hand_over(&mut sent, 10, 1);
    }
}

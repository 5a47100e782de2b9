//! The reliable packets that a room keeps for those who resume: what was on its way when a link was lost is sent again, and the
//! receiver drops what it knows. Pure.
//!
//! Bounds: [`BYTES_MAX`], and [`RESUME_WITHIN`] with a margin. Clients that must not lose anything have it acknowledged.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::limits::RESUME_WITHIN;
use super::packets::Receivers;

/// Most bytes of the packets of one room.
const BYTES_MAX: usize = 1 << 20;
/// What a packet takes beside its bytes, about, in bytes.
const OVERHEAD_BYTES: usize = 128;
/// How long a packet is kept.
const KEPT_FOR: Duration = RESUME_WITHIN.saturating_add(Duration::from_secs(5));

/// A packet that was forwarded.
#[derive(Debug)]
struct Kept {
    at: Instant,
    publisher_sid: Arc<str>,
    sequence: u32,
    to: Receivers,
    bytes: Arc<[u8]>,
}

impl Kept {
    fn size(&self) -> usize {
        OVERHEAD_BYTES + self.bytes.len() + self.to.bytes()
    }
}

/// The last reliable packets of a room, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    packets: VecDeque<Kept>,
    bytes: usize,
}

impl History {
    /// Keep a packet. One without a number cannot be recognised, so it is never sent again.
    pub(super) fn keep(
        &mut self,
        publisher_sid: &Arc<str>,
        sequence: u32,
        to: Receivers,
        bytes: &Arc<[u8]>,
        now: Instant,
    ) {
        if sequence == 0 {
            return;
        }
        let kept = Kept { at: now, publisher_sid: publisher_sid.clone(), sequence, to, bytes: bytes.clone() };
        self.bytes += kept.size();
        self.packets.push_back(kept);
        let is_old = |kept: &Kept| kept.at + KEPT_FOR < now;
        while self.bytes > BYTES_MAX || self.packets.front().is_some_and(is_old) {
            let Some(oldest) = self.packets.pop_front() else { break };
            self.bytes -= oldest.size();
        }
    }

    /// The packets for a participant that came at `since`, after those that it has: the last sequence of each publisher.
    pub(super) fn after(
        &self,
        (sid, identity): (&str, &str),
        since: Instant,
        has: &HashMap<&str, u32>,
    ) -> Vec<Arc<[u8]>> {
        let is_new = |kept: &&Kept| {
            let last = has.get(&*kept.publisher_sid).copied().unwrap_or_default();
            kept.at >= since && kept.sequence > last && *kept.publisher_sid != *sid && kept.to.include(sid, identity)
        };
        self.packets.iter().filter(is_new).map(|kept| kept.bytes.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    #[test]
    fn packets_after_the_last_known_ones_are_sent_again() {
        let (now, mut history) = (Instant::now(), History::default());
        let (ann, bob): (Arc<str>, Arc<str>) = ("PA_1".into(), "PA_2".into());
        let to_cid = Receivers::new(vec!["cid".into()], Vec::new()).unwrap();
        history.keep(&ann, 1, Receivers::default(), &bytes("a1"), now);
        let later = now + Duration::from_secs(1);
        history.keep(&ann, 2, Receivers::default(), &bytes("a2"), later);
        history.keep(&bob, 9, to_cid, &bytes("b9"), later);
        history.keep(&bob, 0, Receivers::default(), &bytes("b0"), later);
        let after = |who, since, has: &[(&str, u32)]| history.after(who, since, &has.iter().copied().collect());
        assert_eq!(after(("PA_3", "cid"), now, &[("PA_1", 1)]), [bytes("a2"), bytes("b9")]);
        assert_eq!(after(("PA_3", "cid"), now, &[("PA_1", 2), ("PA_2", 9)]), Vec::<Arc<[u8]>>::new());
        assert_eq!(after(("PA_4", "dan"), later, &[]), [bytes("a2")]);
        assert_eq!(after(("PA_1", "ann"), now, &[]), Vec::<Arc<[u8]>>::new());
    }

    #[test]
    fn old_packets_and_those_over_the_bound_are_forgotten() {
        let (now, mut history) = (Instant::now(), History::default());
        let ann: Arc<str> = "PA_1".into();
        let large: Arc<[u8]> = vec![0; 60_000].into();
        for sequence in 1..=100 {
            history.keep(&ann, sequence, Receivers::default(), &large, now);
        }
        assert!(history.bytes <= BYTES_MAX && history.packets.len() == BYTES_MAX / (60_000 + OVERHEAD_BYTES));
        history.keep(&ann, 101, Receivers::default(), &bytes("x"), now + KEPT_FOR + Duration::from_secs(1));
        assert_eq!((history.packets.len(), history.bytes), (1, OVERHEAD_BYTES + 1));
    }
}

//! The reliable packets that a room keeps for those who resume: what was on its way when a link was lost is sent again, and the
//! receiver drops what it knows. Pure.
//!
//! Bounds: [`BYTES_MAX`], and [`RESUME_WITHIN`] with a margin. Where it is too much, the last words of those who left are forgotten
//! first, and then packets of the participant that has most of them. Clients that must not lose anything have it acknowledged.

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
    /// Its place among the packets of all publishers.
    number: u64,
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

/// Packets, the oldest first.
#[derive(Debug, Default)]
struct Packets {
    kept: VecDeque<Kept>,
    bytes: usize,
}

impl Packets {
    fn push(&mut self, kept: Kept) {
        self.bytes += kept.size();
        self.kept.push_back(kept);
    }

    /// Remove the oldest one. Returns its size.
    fn pop(&mut self) -> usize {
        let size = self.kept.pop_front().map_or(0, |oldest| oldest.size());
        self.bytes -= size;
        size
    }

    fn is_old(&self, now: Instant) -> bool {
        self.kept.front().is_some_and(|oldest| oldest.at + KEPT_FOR < now)
    }
}

/// The last reliable packets of a room.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Those of each participant.
    by_publisher: HashMap<Arc<str>, Packets>,
    /// Those of participants who have left.
    last_words: Packets,
    bytes: usize,
    last_number: u64,
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
        self.last_number += 1;
        let (number, publisher_sid) = (self.last_number, publisher_sid.clone());
        let kept = Kept { at: now, number, publisher_sid, sequence, to, bytes: bytes.clone() };
        self.bytes += kept.size();
        self.by_publisher.entry(kept.publisher_sid.clone()).or_default().push(kept);
        self.forget_old(now);
        while self.bytes > BYTES_MAX {
            let largest = self.by_publisher.values_mut().max_by_key(|packets| packets.bytes);
            let from = if self.last_words.kept.is_empty() { largest } else { Some(&mut self.last_words) };
            let Some(from) = from else { break };
            self.bytes -= from.pop();
        }
        self.by_publisher.retain(|_, packets| !packets.kept.is_empty());
    }

    /// A participant has left. Its last words are the first that are forgotten.
    pub(super) fn left(&mut self, publisher_sid: &str) {
        if let Some(packets) = self.by_publisher.remove(publisher_sid) {
            packets.kept.into_iter().for_each(|kept| self.last_words.push(kept));
        }
    }

    /// The packets for a participant that came at `since`, after those that it has: the last sequence of each publisher. None is older
    /// than [`KEPT_FOR`]: clients forget after 30 s what they have, and would take an older one for new.
    pub(super) fn after(
        &self,
        (sid, identity): (&str, &str),
        since: Instant,
        has: &HashMap<&str, u32>,
        now: Instant,
    ) -> Vec<Arc<[u8]>> {
        let recent = now.checked_sub(KEPT_FOR).unwrap_or(since);
        let is_new = |kept: &&Kept| {
            let last = has.get(&*kept.publisher_sid).copied().unwrap_or_default();
            kept.at >= since.max(recent)
                && kept.sequence > last
                && *kept.publisher_sid != *sid
                && kept.to.include(sid, identity)
        };
        let all = self.by_publisher.values().chain([&self.last_words]).flat_map(|packets| &packets.kept);
        let mut new: Vec<&Kept> = all.filter(is_new).collect();
        new.sort_unstable_by_key(|kept| kept.number);
        new.into_iter().map(|kept| kept.bytes.clone()).collect()
    }

    fn forget_old(&mut self, now: Instant) {
        for packets in self.by_publisher.values_mut().chain([&mut self.last_words]) {
            while packets.is_old(now) {
                self.bytes -= packets.pop();
            }
        }
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
        let after = |who, since, has: &[(&str, u32)]| history.after(who, since, &has.iter().copied().collect(), later);
        assert_eq!(after(("PA_3", "cid"), now, &[("PA_1", 1)]), [bytes("a2"), bytes("b9")]);
        assert_eq!(after(("PA_3", "cid"), now, &[("PA_1", 2), ("PA_2", 9)]), Vec::<Arc<[u8]>>::new());
        assert_eq!(after(("PA_4", "dan"), later, &[]), [bytes("a2")]);
        assert_eq!(after(("PA_1", "ann"), now, &[]), Vec::<Arc<[u8]>>::new());
    }

    #[test]
    fn packet_that_clients_have_forgotten_is_not_sent_again() {
        let (now, mut history) = (Instant::now(), History::default());
        history.keep(&"PA_1".into(), 1, Receivers::default(), &bytes("a1"), now);
        let count = |at| history.after(("PA_3", "cid"), now, &HashMap::new(), at).len();
        assert_eq!((count(now + KEPT_FOR), count(now + KEPT_FOR + Duration::from_millis(1))), (1, 0));
    }

    #[test]
    fn old_packets_and_those_over_the_bound_are_forgotten() {
        let (now, mut history) = (Instant::now(), History::default());
        let ann: Arc<str> = "PA_1".into();
        let large: Arc<[u8]> = vec![0; 60_000].into();
        for sequence in 1..=100 {
            history.keep(&ann, sequence, Receivers::default(), &large, now);
        }
        let count = |history: &History| history.by_publisher.values().map(|packets| packets.kept.len()).sum::<usize>();
        assert!(history.bytes <= BYTES_MAX && count(&history) == BYTES_MAX / (60_000 + OVERHEAD_BYTES));
        history.keep(&ann, 101, Receivers::default(), &bytes("x"), now + KEPT_FOR + Duration::from_secs(1));
        assert_eq!((count(&history), history.bytes), (1, OVERHEAD_BYTES + 1));
    }

    #[test]
    fn flood_of_one_participant_displaces_no_packet_of_others() {
        let (now, mut history) = (Instant::now(), History::default());
        let (ann, bob): (Arc<str>, Arc<str>) = ("PA_1".into(), "PA_2".into());
        history.keep(&bob, 1, Receivers::default(), &bytes("b1"), now);
        let large: Arc<[u8]> = vec![0; 60_000].into();
        let all = HashMap::new();
        let first = |history: &History| history.after(("PA_3", "cid"), now, &all, now).first().cloned();
        for sequence in 1..=100 {
            history.keep(&ann, sequence, Receivers::default(), &large, now);
        }
        assert_eq!(first(&history), Some(bytes("b1")));
        // Nor does it under one name after another.
        for number in 0..100 {
            let sid: Arc<str> = format!("PA_9{number}").into();
            history.keep(&sid, 1, Receivers::default(), &large, now);
            history.left(&sid);
        }
        assert_eq!(first(&history), Some(bytes("b1")));
        assert!(history.bytes <= BYTES_MAX);
    }

    #[test]
    fn last_words_are_sent_again_in_order_and_forgotten_first() {
        let (now, mut history) = (Instant::now(), History::default());
        let (ann, bob): (Arc<str>, Arc<str>) = ("PA_1".into(), "PA_2".into());
        for (sid, sequence, text) in [(&ann, 1, "a1"), (&bob, 1, "b1"), (&ann, 2, "a2"), (&bob, 2, "b2")] {
            history.keep(sid, sequence, Receivers::default(), &bytes(text), now);
        }
        history.left("PA_1");
        history.left("PA_9");
        let all = |history: &History| history.after(("PA_3", "cid"), now, &HashMap::new(), now);
        assert_eq!(all(&history), ["a1", "b1", "a2", "b2"].map(bytes));
        let large: Arc<[u8]> = vec![0; BYTES_MAX - 3 * (OVERHEAD_BYTES + 2)].into();
        history.keep(&bob, 3, Receivers::default(), &large, now);
        assert_eq!(all(&history), [bytes("b1"), bytes("b2")].into_iter().chain([large]).collect::<Vec<_>>());
        history.keep(&bob, 4, Receivers::default(), &bytes("b4"), now + KEPT_FOR + Duration::from_secs(1));
        assert_eq!((history.last_words.bytes, history.bytes), (0, OVERHEAD_BYTES + 2));
    }
}

//! The participants who left a moment ago: those of whom the others are told soon, and those of whom one that comes back is told. Pure.
//!
//! The word of a departure waits for [`TOLD_AFTER`]: texts go another way than this word, and clients drop what is unfinished of one
//! who left. A client that was without a link has missed such words, and LiveKit's clients keep whom nobody tells them about. The
//! word has all facts, because clients show what differs as a change before they show the departure.
//!
//! Bounds: [`KEPT_FOR`], [`COUNT_MAX`] departures, and [`FACTS_BYTES_MAX`] with the last one beyond.

use std::collections::VecDeque;
use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use tokio::time::Instant;

use crate::room_host::limits::{FACTS_BYTES_MAX, MEMBERS_MAX, TOLD_AGAIN_WITHIN};

/// Time from a departure until the others are told.
const TOLD_AFTER: Duration = Duration::from_millis(200);
/// How long a departure is kept for those who come back.
const KEPT_FOR: Duration = TOLD_AGAIN_WITHIN;
/// Most departures that are kept.
const COUNT_MAX: usize = 1_000;

/// Somebody who left.
struct Departure {
    at: Instant,
    info: proto::ParticipantInfo,
    bytes: usize,
}

/// The participants who left a moment ago, the earliest first.
#[derive(Default)]
pub(super) struct Departures {
    kept: VecDeque<Departure>,
    /// The number of those that the others know, from the earliest on.
    told: usize,
    /// The bytes of all.
    bytes: usize,
    /// When somebody left whom the bounds have forgotten too early.
    forgotten_at: Option<Instant>,
}

impl Departures {
    /// Somebody left. Returns those whom the others have to be told about at once, because too many wait.
    pub(super) fn add(&mut self, info: proto::ParticipantInfo, now: Instant) -> Vec<proto::ParticipantInfo> {
        self.forget_former(&info.identity);
        let bytes = info.encoded_len();
        self.bytes += bytes;
        self.kept.push_back(Departure { at: now, info, bytes });
        let untold: usize = self.kept.iter().skip(self.told).map(|departure| departure.bytes).sum();
        let is_too_much = untold > FACTS_BYTES_MAX || self.kept.len() - self.told > MEMBERS_MAX;
        let told_now = if is_too_much { self.tell(self.kept.len()) } else { Vec::new() };
        self.forget(now);
        told_now
    }

    /// When [`Self::due`] has somebody.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.kept.get(self.told).map(|departure| departure.at + TOLD_AFTER)
    }

    /// Those of whom it is time to tell.
    pub(super) fn due(&mut self, now: Instant) -> Vec<proto::ParticipantInfo> {
        self.forget(now);
        let count = self.kept.iter().take_while(|departure| departure.at + TOLD_AFTER <= now).count();
        self.tell(count)
    }

    /// Those of whom to tell before somebody with this identity comes: its former self, and who left before.
    pub(super) fn before(&mut self, identity: &str) -> Vec<proto::ParticipantInfo> {
        let last = self.kept.iter().rposition(|departure| departure.info.identity == identity);
        self.tell(last.map_or(0, |last| last + 1))
    }

    /// Those whom somebody that was away may have missed, or none where some are forgotten.
    pub(super) fn missed(&self, now: Instant) -> Option<impl Iterator<Item = &proto::ParticipantInfo>> {
        let is_recent = move |at: Instant| at + KEPT_FOR >= now;
        let told = self.kept.iter().take(self.told).filter(move |departure| is_recent(departure.at));
        self.forgotten_at.is_none_or(|at| !is_recent(at)).then(|| told.map(|departure| &departure.info))
    }

    /// Forget the departures of former selves that the others know: one that comes back knows the last one at most.
    fn forget_former(&mut self, identity: &str) {
        let mut told = 0..self.told;
        let (kept, bytes) = (&mut self.kept, &mut self.bytes);
        let mut forgotten = 0;
        kept.retain(|departure| {
            let is_former = told.next().is_some() && departure.info.identity == identity;
            if is_former {
                *bytes -= departure.bytes;
                forgotten += 1;
            }
            !is_former
        });
        self.told -= forgotten;
    }

    /// The others know these many from the earliest on. Returns those that are new to them.
    fn tell(&mut self, count: usize) -> Vec<proto::ParticipantInfo> {
        let new = self.kept.iter().take(count).skip(self.told).map(|departure| departure.info.clone()).collect();
        self.told = self.told.max(count);
        new
    }

    /// Forget those who are told, and whose time is over or who are too many.
    fn forget(&mut self, now: Instant) {
        while self.told > 0
            && let Some(earliest) = self.kept.front()
        {
            let is_over = earliest.at + KEPT_FOR < now;
            if !is_over && self.bytes <= FACTS_BYTES_MAX && self.kept.len() <= COUNT_MAX {
                return;
            }
            self.forgotten_at = if is_over { self.forgotten_at } else { Some(earliest.at) };
            self.bytes -= earliest.bytes;
            self.told -= 1;
            self.kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(sid: usize, identity: &str, metadata_bytes: usize) -> proto::ParticipantInfo {
        let (sid, identity, metadata) = (format!("PA_{sid}"), identity.to_owned(), "x".repeat(metadata_bytes));
        proto::ParticipantInfo { sid, identity, metadata, ..Default::default() }
    }

    fn sids(infos: &[proto::ParticipantInfo]) -> Vec<&str> {
        infos.iter().map(|info| info.sid.as_str()).collect()
    }

    #[test]
    fn departures_are_told_in_order_each_once() {
        let (now, mut departures) = (Instant::now(), Departures::default());
        let later = now + TOLD_AFTER;
        assert!(departures.add(info(1, "ann", 0), now).is_empty());
        assert!(
            departures.add(info(2, "bob", 0), now).is_empty() && departures.add(info(3, "cid", 0), later).is_empty()
        );
        assert!(departures.due(now).is_empty() && departures.before("dan").is_empty());
        assert_eq!(departures.missed(now).unwrap().count(), 0, "what is not told yet is told to everybody");
        assert_eq!((departures.due_at(), sids(&departures.before("bob"))), (Some(later), vec!["PA_1", "PA_2"]));
        assert!(departures.before("bob").is_empty() && departures.due(later).is_empty());
        assert_eq!(sids(&departures.due(later + TOLD_AFTER)), ["PA_3"]);
        assert_eq!((departures.due_at(), departures.missed(later).unwrap().count()), (None, 3));
        assert!(departures.due(now + KEPT_FOR + TOLD_AFTER).is_empty());
        assert_eq!((departures.missed(later + KEPT_FOR).unwrap().count(), departures.kept.len()), (1, 1));
    }

    #[test]
    fn too_many_departures_are_told_at_once_and_those_forgotten_too_early_are_noticed() {
        let (now, mut departures) = (Instant::now(), Departures::default());
        let large = |sid: usize| info(sid, &format!("p{sid}"), 64 << 10);
        let told: Vec<usize> = (0..40).map(|sid| departures.add(large(sid), now).len()).collect();
        assert_eq!((told.iter().sum::<usize>(), told[31]), (32, 32), "{told:?}");
        assert!(departures.bytes <= FACTS_BYTES_MAX && departures.missed(now).is_none());
        departures.due(now + TOLD_AFTER);
        let later = now + KEPT_FOR + TOLD_AFTER;
        assert!(departures.due(later).is_empty());
        assert_eq!((departures.bytes, departures.kept.len(), departures.missed(later).unwrap().count()), (0, 0, 0));
        for sid in 0..2 * COUNT_MAX {
            departures.add(info(sid, &format!("p{sid}"), 0), later);
            departures.due(later + TOLD_AFTER);
        }
        assert_eq!(departures.kept.len(), COUNT_MAX);
    }

    #[test]
    fn participant_that_comes_and_goes_displaces_nobody() {
        let (now, mut departures) = (Instant::now(), Departures::default());
        departures.add(info(1, "bob", 9), now);
        for sid in 2..=100 {
            departures.add(info(sid, "ann", 64 << 10), now);
            departures.due(now + TOLD_AFTER);
        }
        let missed: Vec<_> = departures.missed(now).unwrap().cloned().collect();
        assert_eq!(sids(&missed), ["PA_1", "PA_100"]);
        departures.add(info(101, "ann", 0), now);
        departures.add(info(102, "ann", 0), now);
        assert_eq!(sids(&departures.due(now + TOLD_AFTER)), ["PA_101", "PA_102"], "what is not told yet stays");
    }
}

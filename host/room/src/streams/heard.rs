//! The last sequence that was heard of each publisher. What is not newer is a repeat: a server sends packets again to one who joins
//! or resumes. Pure.
//!
//! Bounds: [`PUBLISHERS_MAX`] publishers, [`DEPARTED_MAX`] of them after they left.

use std::collections::{BTreeMap, VecDeque};

use super::limits::{DEPARTED_MAX, PUBLISHERS_MAX};

/// Who sent a packet.
#[derive(Debug)]
pub(super) struct Origin {
    /// The server sets it: it cannot be forged.
    pub(super) sid: String,
    /// The identity, which may be of somebody for whom an agent speaks; none of the server.
    pub(super) sender: Option<String>,
    /// Whether the news that the publisher left overtook the packet.
    pub(super) has_left: bool,
}

/// The last sequences, by the sids of the publishers. A sid is of one stay in the room, so a new session does not change them.
#[derive(Debug, Default)]
pub(super) struct Heard {
    last: BTreeMap<String, u32>,
    /// Publishers who left, the earliest first. Their packets may still be on their way, and be sent again.
    departed: VecDeque<String>,
}

impl Heard {
    /// Whether a reliable packet is new. One without a sequence is: it comes from the server itself.
    pub(super) fn is_new(&mut self, sid: &str, sequence: u32) -> bool {
        if sequence == 0 || sid.is_empty() {
            return true;
        }
        if let Some(last) = self.last.get_mut(sid) {
            let is_new = sequence > *last;
            *last = sequence.max(*last);
            return is_new;
        }
        if self.last.len() >= PUBLISHERS_MAX {
            self.last.pop_first();
        }
        self.last.insert(sid.to_owned(), sequence);
        true
    }

    /// A publisher left.
    pub(super) fn left(&mut self, sid: &str) {
        self.departed.push_back(sid.to_owned());
        if self.departed.len() > DEPARTED_MAX
            && let Some(earliest) = self.departed.pop_front()
        {
            self.last.remove(&earliest);
        }
    }

    /// Whether a publisher has left.
    pub(super) fn has_left(&self, sid: &str) -> bool {
        self.departed.iter().any(|departed| departed == sid)
    }

    /// The publishers and their last sequences.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, u32)> {
        self.last.iter().map(|(sid, sequence)| (sid.as_str(), *sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_found_and_publishers_bounded() {
        let mut heard = Heard::default();
        assert!(heard.is_new("a", 2) && !heard.is_new("a", 2) && !heard.is_new("a", 1) && heard.is_new("a", 5));
        assert!(heard.is_new("b", 1) && heard.is_new("", 1) && heard.is_new("", 1) && heard.is_new("a", 0));
        assert_eq!(heard.all().collect::<Vec<_>>(), [("a", 5), ("b", 1)]);
        heard.left("a");
        assert!(heard.has_left("a") && !heard.has_left("b"));
        assert!(!heard.is_new("a", 1), "sent again after it left");
        for number in 0..DEPARTED_MAX {
            let sid = format!("d{number}");
            heard.is_new(&sid, 1);
            heard.left(&sid);
        }
        assert!(heard.is_new("a", 1), "forgotten");
        (0..=PUBLISHERS_MAX).for_each(|number| assert!(heard.is_new(&format!("p{number}"), 1)));
        assert_eq!(heard.all().count(), PUBLISHERS_MAX);
    }
}

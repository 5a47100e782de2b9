//! Bytes that the streams of each sender hold. Pure.
//!
//! Bounds: [`SENDER_BYTES_MAX`] of one sender, and those of the inbox, of which they are a part.

use std::collections::BTreeMap;

use super::inbox::Inbox;
use super::limits::SENDER_BYTES_MAX;

/// The bytes, by the sids of the senders.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<String, usize>);

impl Held {
    /// Count bytes, also in the inbox. Whether there is room for them.
    pub(super) fn try_take(&mut self, inbox: &mut Inbox, sid: &str, bytes: usize) -> bool {
        let held = self.0.get(sid).copied().unwrap_or_default() + bytes;
        let fits = held <= SENDER_BYTES_MAX && inbox.try_reserve(bytes);
        if fits {
            self.0.insert(sid.to_owned(), held);
        }
        fits
    }

    /// Streams of this sender hold so many bytes less. They stay counted in the inbox.
    pub(super) fn give_back(&mut self, sid: &str, bytes: usize) {
        if let Some(held) = self.0.get_mut(sid) {
            *held -= bytes;
            if *held == 0 {
                self.0.remove(sid);
            }
        }
    }

    /// The bytes of all senders.
    #[cfg(test)]
    pub(super) fn sum(&self) -> usize {
        assert!(self.0.values().all(|held| *held <= SENDER_BYTES_MAX));
        self.0.values().sum()
    }
}

//! The tracks that the server was asked to send, and those that it was asked to send no more. Pure.
//!
//! A request may be lost with its link. A resumption names the tracks that are heard, which takes none back: the others are named after it.
//!
//! Bounds: [`LET_GO_MAX`] tracks that are named again.

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol as proto;

/// Most tracks that the server is asked again not to send. One beyond it costs packets that nobody hears.
const LET_GO_MAX: usize = 64;

/// What the server was asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Tracks to send, and whether each is still in the room.
    wanted: BTreeMap<String, bool>,
    /// Tracks of the room to send no more.
    let_go: BTreeSet<String>,
    /// Whether those have to be named again.
    repeats: bool,
}

impl Asked {
    /// Whether the server was asked to send a track.
    pub(super) fn contains(&self, track_sid: &str) -> bool {
        self.wanted.get(track_sid) == Some(&true)
    }

    /// The next request, where the server was asked for others than those that are heard.
    pub(super) fn next<'a>(
        &mut self,
        heard: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<proto::UpdateSubscription> {
        if let Some(new) = heard.clone().find(|sid| !self.contains(sid)) {
            let sid = new.to_owned();
            self.let_go.remove(&sid);
            self.wanted.insert(sid.clone(), true);
            return Some(subscription([sid], true));
        }
        if std::mem::take(&mut self.repeats) && !self.let_go.is_empty() {
            return Some(subscription(self.let_go.iter().cloned(), false));
        }
        let sid = self.wanted.keys().find(|sid| heard.clone().all(|heard| heard != **sid)).cloned()?;
        let is_there = self.wanted.remove(&sid) == Some(true);
        if is_there && self.let_go.len() < LET_GO_MAX {
            self.let_go.insert(sid.clone());
        }
        Some(subscription([sid], false))
    }

    /// What the server is told at a resumption.
    pub(super) fn resume<'a>(&mut self, heard: impl Iterator<Item = &'a str>) -> proto::UpdateSubscription {
        let heard: BTreeSet<&str> = heard.collect();
        self.wanted.extend(heard.iter().map(|sid| ((*sid).to_owned(), true)));
        self.let_go.retain(|sid| !heard.contains(sid.as_str()));
        self.repeats = true;
        subscription(heard.iter().map(|sid| (*sid).to_owned()), true)
    }

    /// Only these tracks are in the room. The server sends no others.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.let_go.retain(|sid| is_there(sid));
        self.wanted.iter_mut().for_each(|(sid, is_known)| *is_known &= is_there(sid));
    }
}

fn subscription(track_sids: impl IntoIterator<Item = String>, subscribe: bool) -> proto::UpdateSubscription {
    proto::UpdateSubscription { track_sids: track_sids.into_iter().collect(), subscribe, ..Default::default() }
}

//! What a participant chooses to hear, and who may hear it. Pure.
//!
//! Bounds: the tracks of the room, and as many words about participants and their tracks as there may be of these.

use std::collections::HashSet;

use livekit_protocol as proto;

use super::limits::{MEMBERS_MAX, TRACKS_MAX};
use super::tracks::TrackId;

/// What a participant chooses to hear.
#[derive(Debug, Default)]
pub(super) struct Choices {
    /// Whether it hears the tracks about which it says nothing.
    hears_all: bool,
    /// The tracks about which it says the contrary.
    contrary: HashSet<TrackId>,
    /// The tracks that it hears, and whose sound it does not want now.
    paused: HashSet<TrackId>,
}

impl Choices {
    /// No choices yet.
    pub(super) fn new(hears_all: bool) -> Self {
        Self { hears_all, ..Self::default() }
    }

    /// Whether it is to hear a track.
    pub(super) fn wants(&self, track: TrackId) -> bool {
        self.hears_all != self.contrary.contains(&track)
    }

    /// Hear a track of the room, or do not.
    pub(super) fn choose(&mut self, track: TrackId, hears: bool) {
        if hears == self.hears_all {
            self.contrary.remove(&track);
        } else {
            self.contrary.insert(track);
        }
    }

    /// Get no sound of a track of the room for now, or get it again.
    pub(super) fn pause(&mut self, track: TrackId, is_paused: bool) {
        if is_paused {
            self.paused.insert(track);
        } else {
            self.paused.remove(&track);
        }
    }

    pub(super) fn is_paused(&self, track: TrackId) -> bool {
        self.paused.contains(&track)
    }

    /// A track is over.
    pub(super) fn forget(&mut self, track: TrackId) {
        self.contrary.remove(&track);
        self.paused.remove(&track);
    }
}

/// Who may hear a participant. Everybody, until it says otherwise.
#[derive(Clone, Debug, Default)]
pub(super) struct Audience(Option<Vec<proto::TrackPermission>>);

impl Audience {
    pub(super) fn new(permission: proto::SubscriptionPermission) -> Self {
        let mut permissions = permission.track_permissions;
        permissions.truncate(MEMBERS_MAX);
        permissions.iter_mut().for_each(|one| one.track_sids.truncate(TRACKS_MAX));
        Self((!permission.all_participants).then_some(permissions))
    }

    /// Whether somebody with this sid and this identity may hear a track.
    pub(super) fn allows(&self, sid: &str, identity: &str, track_sid: &str) -> bool {
        let is_for = |one: &&proto::TrackPermission| match one.participant_identity.as_str() {
            "" => one.participant_sid == sid,
            name => name == identity,
        };
        let allows =
            |one: &proto::TrackPermission| one.all_tracks || one.track_sids.iter().any(|track| track == track_sid);
        self.0.as_ref().is_none_or(|permissions| permissions.iter().filter(is_for).any(allows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_differ_from_the_rule() {
        let (one, two) = (TrackId(1), TrackId(2));
        for hears_all in [true, false] {
            let mut choices = Choices::new(hears_all);
            choices.choose(one, !hears_all);
            choices.choose(two, hears_all);
            assert_eq!((choices.wants(one), choices.wants(two)), (!hears_all, hears_all));
            choices.choose(one, hears_all);
            assert_eq!(choices.wants(one), hears_all);
            choices.choose(one, !hears_all);
            choices.pause(one, true);
            assert!(choices.is_paused(one) && !choices.is_paused(two));
            choices.forget(one);
            assert!(choices.wants(one) == hears_all && !choices.is_paused(one) && choices.contrary.is_empty());
        }
    }

    #[test]
    fn audience_is_everybody_or_those_who_are_named() {
        assert!(Audience::default().allows("PA_1", "ann", "TR_1"));
        let permission = |sid: &str, identity: &str, all_tracks, tracks: &[&str]| proto::TrackPermission {
            participant_sid: sid.into(),
            participant_identity: identity.into(),
            all_tracks,
            track_sids: tracks.iter().map(|track| (*track).to_owned()).collect(),
        };
        let audience = Audience::new(proto::SubscriptionPermission {
            all_participants: false,
            track_permissions: vec![permission("", "ann", true, &[]), permission("PA_2", "", false, &["TR_1"])],
        });
        assert!(audience.allows("PA_1", "ann", "TR_9") && audience.allows("PA_2", "bob", "TR_1"));
        assert!(!audience.allows("PA_2", "bob", "TR_2") && !audience.allows("PA_3", "cid", "TR_1"));
        let many = proto::SubscriptionPermission {
            track_permissions: vec![permission("", "ann", true, &[]); 2 * MEMBERS_MAX],
            ..Default::default()
        };
        assert_eq!(Audience::new(many).0.map(|permissions| permissions.len()), Some(MEMBERS_MAX));
        let all = proto::SubscriptionPermission { all_participants: true, track_permissions: Vec::new() };
        assert!(Audience::new(all).allows("PA_3", "cid", "TR_1"));
    }
}

//! The people of a room and their tracks, as the server tells them, and the events that tell the differences.
//!
//! People are known by the server's id of their stay: the same identity with another id left and came again.
//!
//! Bounds: `participants_max` people, [`TRACKS_MAX`] tracks of each, [`BYTES_MAX`] for all their facts. The server's list beyond them is
//! not told; `Lost` counts it.

use std::collections::BTreeMap;

use livekit_protocol as proto;
use prost::Message as _;

use crate::wire;
use wasm_worker_core::room::event::{ConnectionQuality, ParticipantChanges, Reason, RoomEvent, Speaker};
use wasm_worker_core::room::people::{Attributes, Participant, ParticipantState, Track};

/// Most tracks of one participant.
const TRACKS_MAX: usize = 64;

/// Most bytes of all facts. LiveKit's server takes 128 KiB for one participant, and most have a few hundred bytes.
const BYTES_MAX: usize = 8 << 20;

/// Everyone in a room.
#[derive(Debug, Default)]
pub(super) struct People {
    /// The agent itself.
    own: Participant,
    own_version: u32,
    /// The others, by the server's id.
    others: BTreeMap<String, Person>,
    /// The levels of those who speak, by the server's id.
    speakers: BTreeMap<String, f64>,
    participants_max: usize,
    /// Bytes of the facts of the others.
    bytes: usize,
}

#[derive(Debug)]
struct Person {
    participant: Participant,
    tracks: BTreeMap<String, Track>,
    /// Counts the changes that the server made. An older state may come later.
    version: u32,
    bytes: usize,
}

impl People {
    /// Nobody, in a room of at most so many.
    pub(super) fn new(participants_max: usize) -> Self {
        Self { participants_max, ..Self::default() }
    }

    /// The agent itself.
    pub(super) const fn own(&self) -> &Participant {
        &self.own
    }

    /// The agent has this place in the room from now on, as after a join.
    pub(super) fn set_own(&mut self, info: &proto::ParticipantInfo) {
        self.own = wire::participant(info);
        self.own_version = info.version;
    }

    /// Texts reach the agent from now on. The server says so later.
    pub(super) fn own_is_active(&mut self) {
        self.own.state = ParticipantState::Active;
    }

    /// Take some people as they are now.
    pub(super) fn update(&mut self, infos: &[proto::ParticipantInfo], events: &mut Vec<RoomEvent>) {
        let mut beyond = 0;
        for info in infos {
            if info.sid == self.own.sid {
                self.update_own(info, events);
            } else if info.state == proto::participant_info::State::Disconnected as i32 {
                self.remove(&info.sid, wire::reason(info.disconnect_reason), events);
            } else if !self.put(info, events) {
                beyond += 1;
            }
        }
        if beyond > 0 {
            events.push(RoomEvent::Lost { what: "participant-joined", id: None, count: beyond });
        }
    }

    /// Take the whole list of the people: whoever is not in it has left.
    pub(super) fn replace(&mut self, infos: &[proto::ParticipantInfo], events: &mut Vec<RoomEvent>) {
        let is_gone = |sid: &&String| infos.iter().all(|info| info.sid != **sid);
        let gone: Vec<String> = self.others.keys().filter(is_gone).cloned().collect();
        for sid in gone {
            self.remove(&sid, Reason::Unknown, events);
        }
        self.update(infos, events);
    }

    /// Everyone, as if they came now.
    pub(super) fn introduce(&self, events: &mut Vec<RoomEvent>) {
        let mut all: Vec<&Person> = self.others.values().collect();
        all.sort_by(|a, b| a.participant.joined_at_ms.total_cmp(&b.participant.joined_at_ms));
        for person in all {
            events.push(RoomEvent::ParticipantJoined(person.participant.clone()));
            events.extend(person.tracks.values().cloned().map(RoomEvent::TrackPublished));
        }
    }

    /// Take the changes of those who speak.
    pub(super) fn speak(&mut self, changes: &[proto::SpeakerInfo], events: &mut Vec<RoomEvent>) {
        for change in changes {
            if change.active && self.identity_of(&change.sid).is_some() {
                self.speakers.insert(change.sid.clone(), f64::from(change.level).clamp(0.0, 1.0));
            } else {
                self.speakers.remove(&change.sid);
            }
        }
        events.push(self.speaking());
    }

    /// The qualities of the connections of people that are known.
    pub(super) fn qualities(&self, infos: &[proto::ConnectionQualityInfo], events: &mut Vec<RoomEvent>) {
        let known = infos.iter().filter_map(|info| {
            let identity = self.identity_of(&info.participant_sid)?.to_owned();
            Some(ConnectionQuality { identity, quality: wire::quality(info.quality) })
        });
        let known: Vec<_> = known.collect();
        if !known.is_empty() {
            events.push(RoomEvent::QualityChanged(known));
        }
    }

    /// Forget everyone.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.participants_max);
    }

    fn speaking(&self) -> RoomEvent {
        let speaker = |(sid, level): (&String, &f64)| {
            Some(Speaker { identity: self.identity_of(sid)?.to_owned(), level: *level })
        };
        RoomEvent::SpeakersChanged(self.speakers.iter().filter_map(speaker).collect())
    }

    fn identity_of(&self, sid: &str) -> Option<&str> {
        if sid == self.own.sid {
            return Some(&self.own.identity);
        }
        self.others.get(sid).map(|person| person.participant.identity.as_str())
    }

    fn update_own(&mut self, info: &proto::ParticipantInfo, events: &mut Vec<RoomEvent>) {
        if info.version < self.own_version {
            return;
        }
        self.own_version = info.version;
        let now = wire::participant(info);
        let before = std::mem::replace(&mut self.own, now.clone());
        events.extend(change(&before, now));
    }

    /// Whether there was space.
    fn put(&mut self, info: &proto::ParticipantInfo, events: &mut Vec<RoomEvent>) -> bool {
        let before = self.others.get(&info.sid).map(|person| (person.version, person.bytes));
        match before {
            Some((version, _)) if info.version < version => return true,
            Some(_) => {}
            None => self.remove_identity(&info.identity, events),
        }
        let bytes = info.encoded_len();
        let bytes_now = self.bytes - before.map_or(0, |(_, bytes)| bytes) + bytes;
        if bytes_now > BYTES_MAX || (before.is_none() && self.others.len() >= self.participants_max) {
            return false;
        }
        self.bytes = bytes_now;
        let participant = wire::participant(info);
        let tracks = tracks_of(info, &participant.identity);
        let now = Person { participant: participant.clone(), tracks: tracks.clone(), version: info.version, bytes };
        match self.others.insert(info.sid.clone(), now) {
            Some(before) => {
                events.extend(change(&before.participant, participant));
                track_changes(&before.tracks, &tracks, events);
            }
            None => {
                events.push(RoomEvent::ParticipantJoined(participant));
                events.extend(tracks.into_values().map(RoomEvent::TrackPublished));
            }
        }
        true
    }

    /// The older stay of an identity is over once it has another one.
    fn remove_identity(&mut self, identity: &str, events: &mut Vec<RoomEvent>) {
        let older = self.others.iter().find(|(_, person)| person.participant.identity == identity);
        if let Some(sid) = older.map(|(sid, _)| sid.clone()) {
            self.remove(&sid, Reason::DuplicateIdentity, events);
        }
    }

    fn remove(&mut self, sid: &str, reason: Reason, events: &mut Vec<RoomEvent>) {
        let Some(Person { mut participant, tracks, bytes, .. }) = self.others.remove(sid) else { return };
        self.bytes -= bytes;
        if self.speakers.remove(sid).is_some() {
            events.push(self.speaking());
        }
        participant.state = ParticipantState::Left;
        events.extend(tracks.into_values().map(RoomEvent::TrackUnpublished));
        events.push(RoomEvent::ParticipantLeft { participant, reason });
    }
}

fn tracks_of(info: &proto::ParticipantInfo, identity: &str) -> BTreeMap<String, Track> {
    let tracks = info.tracks.iter().take(TRACKS_MAX);
    tracks.map(|track| (track.sid.clone(), wire::track(track, identity))).collect()
}

fn track_changes(before: &BTreeMap<String, Track>, now: &BTreeMap<String, Track>, events: &mut Vec<RoomEvent>) {
    let gone = before.iter().filter(|(sid, _)| !now.contains_key(*sid));
    events.extend(gone.map(|(_, track)| RoomEvent::TrackUnpublished(track.clone())));
    for (sid, track) in now {
        match before.get(sid) {
            None => events.push(RoomEvent::TrackPublished(track.clone())),
            Some(before) if before != track => events.push(RoomEvent::TrackChanged(track.clone())),
            Some(_) => {}
        }
    }
}

/// The event for what differs; none where nothing does that agents see.
fn change(before: &Participant, now: Participant) -> Option<RoomEvent> {
    let changes = ParticipantChanges {
        name: before.name != now.name,
        metadata: before.metadata != now.metadata,
        attributes: before.attributes != now.attributes,
        permissions: before.permissions != now.permissions,
        state: before.state != now.state,
    };
    let attributes = attribute_changes(&before.attributes, &now.attributes);
    (changes != ParticipantChanges::default()).then_some(RoomEvent::ParticipantChanged {
        participant: now,
        changes,
        attributes,
    })
}

/// The attributes that differ; removed ones with an empty value.
fn attribute_changes(before: &Attributes, now: &Attributes) -> Attributes {
    let changed = now.iter().filter(|pair| !before.contains(pair)).cloned();
    let removed = before.iter().filter(|(name, _)| now.iter().all(|(other, _)| other != name));
    changed.chain(removed.map(|(name, _)| (name.clone(), String::new()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(sid: &str, identity: &str, version: u32) -> proto::ParticipantInfo {
        let state = proto::participant_info::State::Active as i32;
        proto::ParticipantInfo { sid: sid.into(), identity: identity.into(), version, state, ..Default::default() }
    }

    /// The names of the events, with whom they are about.
    fn told(events: &[RoomEvent]) -> Vec<String> {
        let name = |event: &RoomEvent| match event {
            RoomEvent::ParticipantJoined(who) => format!("joined {}", who.sid),
            RoomEvent::ParticipantLeft { participant, reason } => {
                format!("left {} {}", participant.sid, reason.as_str())
            }
            RoomEvent::ParticipantChanged { participant, .. } => format!("changed {}", participant.sid),
            RoomEvent::TrackPublished(track) => format!("published {}", track.sid),
            RoomEvent::TrackUnpublished(track) => format!("unpublished {}", track.sid),
            RoomEvent::TrackChanged(track) => format!("track {}", track.sid),
            RoomEvent::SpeakersChanged(speakers) => {
                format!("speak {}", speakers.iter().map(|who| who.identity.as_str()).collect::<Vec<_>>().join(","))
            }
            other => format!("{other:?}"),
        };
        events.iter().map(name).collect()
    }

    fn people() -> People {
        let mut people = People::new(3);
        people.set_own(&info("PA_me", "me", 1));
        people
    }

    fn update(people: &mut People, infos: &[proto::ParticipantInfo]) -> Vec<String> {
        let mut events = Vec::new();
        people.update(infos, &mut events);
        told(&events)
    }

    #[test]
    fn the_same_identity_with_another_id_left_and_came_again() {
        let mut people = people();
        assert_eq!(update(&mut people, &[info("PA_1", "ann", 1)]), ["joined PA_1"]);
        assert_eq!(update(&mut people, &[info("PA_2", "ann", 1)]), ["left PA_1 duplicate-identity", "joined PA_2"]);
        let mut gone = info("PA_1", "ann", 9);
        gone.state = proto::participant_info::State::Disconnected as i32;
        assert!(update(&mut people, &[gone.clone()]).is_empty());
        gone.sid = "PA_2".into();
        gone.disconnect_reason = proto::DisconnectReason::ClientInitiated as i32;
        assert_eq!(update(&mut people, &[gone]), ["left PA_2 client-initiated"]);
    }

    #[test]
    fn what_differs_is_told_once_and_older_states_are_not() {
        let mut people = people();
        let mut ann = info("PA_1", "ann", 1);
        ann.attributes = [("a", "1"), ("b", "2")].map(|(name, value)| (name.into(), value.into())).into();
        update(&mut people, &[ann.clone()]);
        assert!(update(&mut people, &[ann.clone()]).is_empty());
        let older = ann.clone();
        ann.version = 2;
        ann.attributes = [("a", "1"), ("c", "3")].map(|(name, value)| (name.into(), value.into())).into();
        let mut events = Vec::new();
        people.update(&[ann], &mut events);
        let [RoomEvent::ParticipantChanged { changes, attributes, .. }] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert_eq!(*changes, ParticipantChanges { attributes: true, ..Default::default() });
        assert_eq!(*attributes, [("c".into(), "3".into()), ("b".into(), String::new())]);
        assert!(update(&mut people, &[older]).is_empty());
    }

    #[test]
    fn tracks_come_change_and_go_with_their_participant() {
        let mut people = people();
        let mut ann = info("PA_1", "ann", 1);
        let track = |sid: &str, muted| proto::TrackInfo { sid: sid.into(), muted, ..Default::default() };
        ann.tracks = vec![track("TR_1", false), track("TR_2", false)];
        assert_eq!(update(&mut people, &[ann.clone()]), ["joined PA_1", "published TR_1", "published TR_2"]);
        ann.tracks = vec![track("TR_2", true), track("TR_3", false)];
        assert_eq!(update(&mut people, &[ann]), ["unpublished TR_1", "track TR_2", "published TR_3"]);
        let mut events = Vec::new();
        people.replace(&[], &mut events);
        assert_eq!(told(&events), ["unpublished TR_2", "unpublished TR_3", "left PA_1 unknown"]);
    }

    #[test]
    fn speakers_are_told_in_full_and_leave_with_their_participant() {
        let mut people = people();
        update(&mut people, &[info("PA_1", "ann", 1), info("PA_2", "ben", 1)]);
        let speaker = |sid: &str, active| proto::SpeakerInfo { sid: sid.into(), level: 2.0, active };
        let mut events = Vec::new();
        people.speak(&[speaker("PA_1", true), speaker("PA_9", true), speaker("PA_2", true)], &mut events);
        people.speak(&[speaker("PA_2", false)], &mut events);
        assert_eq!(told(&events), ["speak ann,ben", "speak ann"]);
        events.clear();
        people.replace(&[], &mut events);
        assert_eq!(told(&events), ["speak ", "left PA_1 unknown", "left PA_2 unknown"]);
    }

    #[test]
    fn facts_beyond_the_bound_are_counted_and_space_comes_back() {
        let mut people = people();
        let mut ann = info("PA_1", "ann", 1);
        ann.metadata = "x".repeat(BYTES_MAX * 2 / 3);
        assert_eq!(update(&mut people, &[ann.clone()]), ["joined PA_1"]);
        let mut ben = info("PA_2", "ben", 1);
        ben.metadata = "x".repeat(BYTES_MAX / 2);
        assert_eq!(update(&mut people, &[ben.clone()]).len(), 1);
        assert!(people.others.len() == 1 && people.bytes <= BYTES_MAX);
        (ann.version, ann.metadata) = (2, "short".into());
        assert_eq!(update(&mut people, &[ann, ben]), ["changed PA_1", "joined PA_2"]);
        let mut events = Vec::new();
        people.replace(&[], &mut events);
        assert_eq!(people.bytes, 0);
    }

    #[test]
    fn people_beyond_the_bound_are_counted() {
        let mut people = people();
        let crowd: Vec<_> = (0..5).map(|n| info(&format!("PA_{n}"), &format!("p{n}"), 1)).collect();
        let mut events = Vec::new();
        people.update(&crowd, &mut events);
        assert_eq!(events.len(), 4);
        assert_eq!(events.last(), Some(&RoomEvent::Lost { what: "participant-joined", id: None, count: 2 }));
    }
}

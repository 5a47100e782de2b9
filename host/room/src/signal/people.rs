//! The people of a room and their tracks, as the server tells them, and the events that tell the differences.
//!
//! People are known by the server's id of their stay: the same identity with another id left and came again.
//!
//! Bounds: `participants_max` people, [`TRACKS_MAX`] tracks of each, [`BYTES_MAX`] for all their facts. The server's list beyond them is
//! not told; `Lost` counts each person of it once, for [`BEYOND_MAX`] people, and each change that is not told.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};

use livekit_protocol as proto;
use prost::Message as _;

use crate::wire;
use wasm_worker_core::room::event::{ConnectionQuality, ParticipantChanges, Reason, RoomEvent, Speaker};
use wasm_worker_core::room::people::{Attributes, Participant, ParticipantState, Track};

/// Most tracks of one participant.
const TRACKS_MAX: usize = 64;

/// Most bytes of all facts. LiveKit's server takes 128 KiB for one participant, and most have a few hundred bytes.
const BYTES_MAX: usize = 8 << 20;

/// Most people beyond the bounds that are remembered, so that each is counted once. More are counted whenever the server names them.
const BEYOND_MAX: usize = 16_384;

/// Everyone in a room.
#[derive(Debug, Default)]
pub(super) struct People {
    /// The agent itself.
    own: Participant,
    own_version: u32,
    /// The others, by the server's id.
    others: BTreeMap<String, Person>,
    /// The ids of the others, by their identities.
    sids: BTreeMap<String, String>,
    /// Hashes of the ids of people beyond the bounds who have been counted: their ids may be long.
    beyond: BTreeSet<u64>,
    /// The keys of these hashes.
    hasher: RandomState,
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

    /// All tracks of the others, with their publishers.
    pub(super) fn tracks(&self) -> impl Iterator<Item = (&Participant, &Track)> {
        self.others.values().flat_map(|person| person.tracks.values().map(|track| (&person.participant, track)))
    }

    /// The track of this id, with its publisher.
    pub(super) fn track(&self, sid: &str) -> Option<(&Participant, &Track)> {
        self.others.values().find_map(|person| Some((&person.participant, person.tracks.get(sid)?)))
    }

    /// The track of this id that the participant of this identity publishes.
    pub(super) fn track_of(&self, identity: &str, sid: &str) -> Option<(&Participant, &Track)> {
        let person = self.others.get(self.sids.get(identity)?)?;
        Some((&person.participant, person.tracks.get(sid)?))
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
        let speakers = self.speakers.len();
        self.take(infos, events);
        self.tell_speakers_gone(speakers, events);
    }

    fn take(&mut self, infos: &[proto::ParticipantInfo], events: &mut Vec<RoomEvent>) {
        let (mut untold, mut unchanged) = (0, 0);
        for info in infos {
            if info.sid == self.own.sid {
                self.update_own(info, events);
            } else if info.state == proto::participant_info::State::Disconnected as i32 {
                self.beyond.remove(&self.hasher.hash_one(&info.sid));
                self.remove(&info.sid, wire::reason(info.disconnect_reason), events);
            } else {
                match self.put(info, events) {
                    Put::Kept => {}
                    Put::Beyond => untold += u32::from(self.is_beyond_first(&info.sid)),
                    Put::Unchanged => unchanged += 1,
                }
            }
        }
        for (what, count) in [("participant-joined", untold), ("participant-changed", unchanged)] {
            if count > 0 {
                events.push(RoomEvent::Lost { what, id: None, count });
            }
        }
    }

    /// Take the whole list of the people: whoever is not in it has left.
    pub(super) fn replace(&mut self, infos: &[proto::ParticipantInfo], events: &mut Vec<RoomEvent>) {
        let speakers = self.speakers.len();
        let listed: BTreeSet<&str> = infos.iter().map(|info| info.sid.as_str()).collect();
        let gone: Vec<String> = self.others.keys().filter(|sid| !listed.contains(sid.as_str())).cloned().collect();
        for sid in gone {
            self.remove(&sid, Reason::Unknown, events);
        }
        let listed: BTreeSet<u64> = listed.into_iter().map(|sid| self.hasher.hash_one(sid)).collect();
        self.beyond.retain(|hash| listed.contains(hash));
        self.take(infos, events);
        self.tell_speakers_gone(speakers, events);
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

    /// Tell those who speak, once for all who left, where there were so many before.
    fn tell_speakers_gone(&self, before: usize, events: &mut Vec<RoomEvent>) {
        if self.speakers.len() < before {
            events.push(self.speaking());
        }
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
        let before = std::mem::replace(&mut self.own, wire::participant(info));
        events.extend(change(&before, &self.own));
    }

    fn put(&mut self, info: &proto::ParticipantInfo, events: &mut Vec<RoomEvent>) -> Put {
        if self.others.get(&info.sid).is_some_and(|person| person.participant.identity != info.identity) {
            // No stay has two identities.
            self.remove(&info.sid, Reason::Unknown, events);
        }
        let before = self.others.get(&info.sid).map(|person| (person.version, person.bytes));
        match before {
            Some((version, _)) if info.version < version => return Put::Kept,
            Some(_) => {}
            None => self.remove_identity(&info.identity, events),
        }
        let bytes = info.encoded_len();
        let bytes_now = self.bytes - before.map_or(0, |(_, bytes)| bytes) + bytes;
        if bytes_now > BYTES_MAX || (before.is_none() && self.others.len() >= self.participants_max) {
            return if before.is_none() { Put::Beyond } else { Put::Unchanged };
        }
        self.bytes = bytes_now;
        let participant = wire::participant(info);
        let tracks = tracks_of(info, &participant.identity);
        let now = Person { participant, tracks, version: info.version, bytes };
        if let Some(person) = self.others.get_mut(&info.sid) {
            events.extend(change(&person.participant, &now.participant));
            track_changes(&person.tracks, &now.tracks, events);
            *person = now;
        } else {
            self.beyond.remove(&self.hasher.hash_one(&info.sid));
            self.sids.insert(info.identity.clone(), info.sid.clone());
            events.push(RoomEvent::ParticipantJoined(now.participant.clone()));
            events.extend(now.tracks.values().cloned().map(RoomEvent::TrackPublished));
            self.others.insert(info.sid.clone(), now);
        }
        Put::Kept
    }

    /// Whether this person beyond the bounds has not been counted yet.
    fn is_beyond_first(&mut self, sid: &str) -> bool {
        let hash = self.hasher.hash_one(sid);
        let is_first = !self.beyond.contains(&hash);
        if is_first && self.beyond.len() < BEYOND_MAX {
            self.beyond.insert(hash);
        }
        is_first
    }

    /// The older stay of an identity is over once it has another one.
    fn remove_identity(&mut self, identity: &str, events: &mut Vec<RoomEvent>) {
        if let Some(sid) = self.sids.get(identity).cloned() {
            self.remove(&sid, Reason::DuplicateIdentity, events);
        }
    }

    fn remove(&mut self, sid: &str, reason: Reason, events: &mut Vec<RoomEvent>) {
        let Some(Person { mut participant, tracks, bytes, .. }) = self.others.remove(sid) else { return };
        self.sids.remove(&participant.identity);
        self.bytes -= bytes;
        self.speakers.remove(sid);
        participant.state = ParticipantState::Left;
        events.extend(tracks.into_values().map(RoomEvent::TrackUnpublished));
        events.push(RoomEvent::ParticipantLeft { participant, reason });
    }
}

/// What became of the facts of a person.
enum Put {
    /// They are kept, or older than those that are.
    Kept,
    /// There is no space for another person.
    Beyond,
    /// There is no space for the change of a person.
    Unchanged,
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
fn change(before: &Participant, now: &Participant) -> Option<RoomEvent> {
    let changes = ParticipantChanges {
        name: before.name != now.name,
        metadata: before.metadata != now.metadata,
        attributes: before.attributes != now.attributes,
        permissions: before.permissions != now.permissions,
        state: before.state != now.state,
    };
    (changes != ParticipantChanges::default()).then(|| RoomEvent::ParticipantChanged {
        participant: now.clone(),
        changes,
        attributes: attribute_changes(&before.attributes, &now.attributes),
    })
}

/// The attributes that differ; removed ones with an empty value. Strangers choose their number.
fn attribute_changes(before: &Attributes, now: &Attributes) -> Attributes {
    let known: BTreeSet<&(String, String)> = before.iter().collect();
    let names: BTreeSet<&str> = now.iter().map(|(name, _)| name.as_str()).collect();
    let changed = now.iter().filter(|pair| !known.contains(pair)).cloned();
    let removed = before.iter().filter(|(name, _)| !names.contains(name.as_str()));
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
        assert_eq!(told(&events), ["speak ann,ben"]);
        events.clear();
        people.speak(&[speaker("PA_2", false)], &mut events);
        people.speak(&[speaker("PA_2", true)], &mut events);
        assert_eq!(told(&events), ["speak ann", "speak ann,ben"]);
        events.clear();
        people.replace(&[], &mut events);
        assert_eq!(told(&events), ["left PA_1 unknown", "left PA_2 unknown", "speak "], "once for both");
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
    fn a_change_beyond_the_bound_has_a_name_of_its_own() {
        let mut people = people();
        let mut ann = info("PA_1", "ann", 1);
        update(&mut people, &[ann.clone()]);
        (ann.version, ann.metadata) = (2, "x".repeat(BYTES_MAX));
        let mut events = Vec::new();
        people.update(&[ann], &mut events);
        assert_eq!(events, [RoomEvent::Lost { what: "participant-changed", id: None, count: 1 }]);
    }

    #[test]
    fn each_person_beyond_the_bound_is_counted_once_while_it_stays() {
        let mut people = people();
        let crowd: Vec<_> = (0..5).map(|n| info(&format!("PA_{n}"), &format!("p{n}"), 1)).collect();
        update(&mut people, &crowd);
        assert!(update(&mut people, &crowd).is_empty());
        let mut gone = crowd[4].clone();
        gone.state = proto::participant_info::State::Disconnected as i32;
        assert!(update(&mut people, &[gone]).is_empty());
        assert!(update(&mut people, &crowd)[0].contains("count: 1"), "it came again");
        let mut events = Vec::new();
        people.replace(&crowd[..4], &mut events);
        people.replace(&crowd, &mut events);
        assert_eq!(events, [RoomEvent::Lost { what: "participant-joined", id: None, count: 1 }]);
        // Space for one more: the fourth is told, and is not beyond any more.
        people.replace(&crowd[1..], &mut events);
        assert_eq!(told(&events[1..]), ["left PA_0 unknown", "joined PA_3"]);
        assert_eq!(people.beyond.len(), 1);
    }

    #[test]
    fn a_stay_under_another_identity_is_another_one() {
        let mut people = people();
        update(&mut people, &[info("PA_1", "ann", 1), info("PA_2", "ben", 1)]);
        let told = update(&mut people, &[info("PA_1", "ben", 2)]);
        assert_eq!(told, ["left PA_1 unknown", "left PA_2 duplicate-identity", "joined PA_1"]);
        assert_eq!(update(&mut people, &[info("PA_3", "ben", 1)]), ["left PA_1 duplicate-identity", "joined PA_3"]);
        assert_eq!(people.sids.len(), people.others.len());
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

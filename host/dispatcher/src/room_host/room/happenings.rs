//! What observers are told of a room: participants and tracks that come and go.
//!
//! Bounds: of a participant that publishes all the time, [`TRACKS_A_SECOND`] tracks a second are told. The end of a track is told where
//! its begin was. As in LiveKit's server, an event about a track has no more than the names of its room and its participant; other
//! events leave out texts of a participant beyond [`TEXTS_BYTES_MAX`]. The events that wait for a sink have a bound, and what is long
//! would take the place of others.

use std::time::Duration;

use livekit_protocol as proto;
use wasm_worker_core::event::{
    HostedEvent, HostedFacts, HostedKind, ParticipantDetails, ParticipantFacts, ParticipantTexts, RoomDetails,
    RoomFacts, TrackFacts,
};

use super::{Room, RoomOutput};
use crate::clock::Moment;
use crate::room_host::member::MemberId;
use crate::room_host::tracks::Track;

/// Tracks of one participant that are told in a second.
const TRACKS_A_SECOND: u32 = 2;
/// Most metadata and attributes of a participant in an event, in bytes.
const TEXTS_BYTES_MAX: usize = 16 << 10;
/// The time whose share of tracks may come at once.
const BURST: Duration = Duration::from_secs(8);

/// A room begins or ends.
pub(in crate::room_host) fn room_event(kind: HostedKind, room: &proto::Room) -> HostedEvent {
    event(kind, room, None, None)
}

impl Room {
    /// A participant is there by now, with its tracks.
    pub(super) fn report_arrival(&mut self, id: MemberId, now: Moment) {
        if let Some(member) = self.members.get(&id) {
            let info = member.info();
            self.report(HostedKind::ParticipantJoined, &info, None);
        }
        self.report_tracks(id, now);
    }

    /// A participant publishes tracks that nobody was told about.
    pub(super) fn report_tracks(&mut self, id: MemberId, now: Moment) {
        let Some(member) = self.members.get_mut(&id).filter(|member| member.is_active) else { return };
        let (mut new, pace) = (Vec::new(), &mut member.report_pace);
        for track in member.tracks.published_mut().filter(|track| !track.is_reported) {
            track.is_reported = pace.admits(Duration::from_secs(1) / TRACKS_A_SECOND, BURST, now.at);
            if track.is_reported {
                new.push(track.info.clone());
            }
        }
        let info = member.info();
        new.iter().for_each(|track| self.report(HostedKind::TrackPublished, &info, Some(track)));
    }

    /// Tracks of a participant are over.
    pub(super) fn report_ends(&mut self, participant: &proto::ParticipantInfo, over: &[Track]) {
        for track in over.iter().filter(|track| track.is_reported) {
            self.report(HostedKind::TrackUnpublished, participant, Some(&track.info));
        }
    }

    /// Something happened to a participant.
    pub(super) fn report(
        &mut self,
        kind: HostedKind,
        participant: &proto::ParticipantInfo,
        track: Option<&proto::TrackInfo>,
    ) {
        let event = event(kind, &self.to_proto(), Some(participant), track);
        self.outputs.push_back(RoomOutput::Event(Box::new(event)));
    }
}

fn event(
    kind: HostedKind,
    room: &proto::Room,
    participant: Option<&proto::ParticipantInfo>,
    track: Option<&proto::TrackInfo>,
) -> HostedEvent {
    let livekit = HostedFacts {
        room: RoomFacts {
            sid: room.sid.clone(),
            name: room.name.clone(),
            details: track.is_none().then(|| room_details(room)),
        },
        participant: participant.map(|info| ParticipantFacts {
            sid: info.sid.clone(),
            identity: info.identity.clone(),
            details: track.is_none().then(|| participant_details(info)),
        }),
        track: track.map(track_facts),
    };
    HostedEvent {
        kind,
        room: room.name.clone(),
        participant: participant.map(|participant| participant.identity.clone()),
        track: track.map(|track| track.sid.clone()),
        livekit,
    }
}

fn room_details(room: &proto::Room) -> RoomDetails {
    RoomDetails {
        metadata: room.metadata.clone(),
        empty_timeout: room.empty_timeout,
        departure_timeout: room.departure_timeout,
        max_participants: room.max_participants,
        creation_time: room.creation_time.to_string(),
        num_participants: room.num_participants,
    }
}

fn participant_details(info: &proto::ParticipantInfo) -> ParticipantDetails {
    let attributes = info.attributes.iter().map(|(key, value)| key.len() + value.len());
    let bytes = info.metadata.len() + attributes.sum::<usize>();
    let texts = || ParticipantTexts {
        metadata: info.metadata.clone(),
        attributes: info.attributes.clone().into_iter().collect(),
    };
    ParticipantDetails {
        name: info.name.clone(),
        texts: (bytes <= TEXTS_BYTES_MAX).then(texts),
        state: info.state().as_str_name(),
        kind: info.kind().as_str_name(),
        joined_at: info.joined_at.to_string(),
        disconnect_reason: info.disconnect_reason().as_str_name(),
    }
}

fn track_facts(track: &proto::TrackInfo) -> TrackFacts {
    TrackFacts {
        sid: track.sid.clone(),
        name: track.name.clone(),
        r#type: track.r#type().as_str_name(),
        source: track.source().as_str_name(),
        muted: track.muted,
        mime_type: track.mime_type.clone(),
    }
}

//! What observers are told of a room: participants and tracks that come and go.
//!
//! Bounds: a participant that publishes all the time is told about at [`TRACKS_A_SECOND`]. The end of a track is told where its begin
//! was.

use std::time::Duration;

use livekit_protocol as proto;
use wasm_worker_core::event::{HostedEvent, HostedFacts, HostedKind, ParticipantFacts, RoomFacts, TrackFacts};

use super::{Room, RoomOutput};
use crate::clock::Moment;
use crate::room_host::member::MemberId;
use crate::room_host::tracks::Track;

/// Tracks of one participant that are told in a second.
const TRACKS_A_SECOND: u32 = 2;
/// The time whose share of tracks may come at once.
const BURST: Duration = Duration::from_secs(8);

impl Room {
    /// The room begins or ends.
    pub(in crate::room_host) fn event(&self, kind: HostedKind) -> HostedEvent {
        event(kind, &self.to_proto(), None, None)
    }

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
        room: room_facts(room),
        participant: participant.map(participant_facts),
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

fn room_facts(room: &proto::Room) -> RoomFacts {
    RoomFacts {
        sid: room.sid.clone(),
        name: room.name.clone(),
        metadata: room.metadata.clone(),
        empty_timeout: room.empty_timeout,
        departure_timeout: room.departure_timeout,
        max_participants: room.max_participants,
        creation_time: room.creation_time.to_string(),
        num_participants: room.num_participants,
    }
}

fn participant_facts(info: &proto::ParticipantInfo) -> ParticipantFacts {
    ParticipantFacts {
        sid: info.sid.clone(),
        identity: info.identity.clone(),
        name: info.name.clone(),
        metadata: info.metadata.clone(),
        attributes: info.attributes.clone().into_iter().collect(),
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

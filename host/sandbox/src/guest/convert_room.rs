//! Conversions between a room's plain data and the records of the contract. Texts are moved, not copied. Pure.

use wasm_worker_core::room::command::{self, Receipt, RpcError, SendOptions, Transcription};
use wasm_worker_core::room::event::{self, ConnectionQuality, Quality, Speaker, StreamInfo};
use wasm_worker_core::room::people::{
    Participant, ParticipantKind, ParticipantState, Permissions, RoomInfo, Track, TrackKind,
};

use super::bindings::wasm_worker::agent::{events, room};
use super::contract;
use super::convert::exact;

impl From<Participant> for contract::Participant {
    fn from(participant: Participant) -> Self {
        let Participant { sid, identity, name, metadata, attributes, kind, state, permissions, joined_at_ms } =
            participant;
        let kind = match kind {
            ParticipantKind::Standard => contract::ParticipantKind::Standard,
            ParticipantKind::Ingress => contract::ParticipantKind::Ingress,
            ParticipantKind::Egress => contract::ParticipantKind::Egress,
            ParticipantKind::Sip => contract::ParticipantKind::Sip,
            ParticipantKind::Agent => contract::ParticipantKind::Agent,
            ParticipantKind::Connector => contract::ParticipantKind::Connector,
            ParticipantKind::Bridge => contract::ParticipantKind::Bridge,
            ParticipantKind::Other => contract::ParticipantKind::Other,
        };
        let state = match state {
            ParticipantState::Joining => contract::ParticipantState::Joining,
            ParticipantState::Joined => contract::ParticipantState::Joined,
            ParticipantState::Active => contract::ParticipantState::Active,
            ParticipantState::Left => contract::ParticipantState::Left,
        };
        Self { sid, identity, name, metadata, attributes, kind, state, permissions: permissions.into(), joined_at_ms }
    }
}

impl From<Permissions> for contract::Permissions {
    fn from(permissions: Permissions) -> Self {
        let Permissions {
            subscribe,
            publish,
            publish_data,
            update_own,
            hidden,
            subscribe_metrics,
            manage_agent_session,
        } = permissions;
        let all = [
            (subscribe, Self::SUBSCRIBE),
            (publish, Self::PUBLISH),
            (publish_data, Self::PUBLISH_DATA),
            (update_own, Self::UPDATE_OWN),
            (hidden, Self::HIDDEN),
            (subscribe_metrics, Self::SUBSCRIBE_METRICS),
            (manage_agent_session, Self::MANAGE_AGENT_SESSION),
        ];
        all.into_iter().filter(|(is_set, _)| *is_set).fold(Self::empty(), |set, (_, flag)| set | flag)
    }
}

impl From<RoomInfo> for contract::RoomInfo {
    fn from(room: RoomInfo) -> Self {
        let RoomInfo { sid, name, metadata, attributes, created_at_ms, participants, recorded } = room;
        Self { sid, name, metadata, attributes, created_at_ms, participants, recorded }
    }
}

impl From<Track> for events::Track {
    fn from(track: Track) -> Self {
        let Track { sid, participant, name, kind, source, mime_type, attributes, muted, encrypted } = track;
        let kind = match kind {
            TrackKind::Audio => events::TrackKind::Audio,
            TrackKind::Video => events::TrackKind::Video,
            TrackKind::Data => events::TrackKind::Data,
            TrackKind::Other => events::TrackKind::Other,
        };
        Self { sid, participant, name, kind, source: source.into(), mime_type, attributes, muted, encrypted }
    }
}

impl From<event::ParticipantChanges> for events::ParticipantChanges {
    fn from(changes: event::ParticipantChanges) -> Self {
        let event::ParticipantChanges { name, metadata, attributes, permissions, state } = changes;
        let all = [
            (name, Self::NAME),
            (metadata, Self::METADATA),
            (attributes, Self::ATTRIBUTES),
            (permissions, Self::PERMISSIONS),
            (state, Self::STATE),
        ];
        all.into_iter().filter(|(is_set, _)| *is_set).fold(Self::empty(), |set, (_, flag)| set | flag)
    }
}

impl From<Speaker> for events::Speaker {
    fn from(Speaker { identity, level }: Speaker) -> Self {
        Self { identity, level }
    }
}

impl From<ConnectionQuality> for events::ConnectionQuality {
    fn from(ConnectionQuality { identity, quality }: ConnectionQuality) -> Self {
        let quality = match quality {
            Quality::Lost => events::Quality::Lost,
            Quality::Poor => events::Quality::Poor,
            Quality::Good => events::Quality::Good,
            Quality::Excellent => events::Quality::Excellent,
        };
        Self { identity, quality }
    }
}

impl From<StreamInfo> for events::StreamInfo {
    fn from(info: StreamInfo) -> Self {
        let StreamInfo { stream_id, sender, topic, name, mime_type, attributes, timestamp_ms, size, reply_to } = info;
        let size = size.map(exact);
        Self { stream_id, sender, topic, name, mime_type, attributes, timestamp_ms, size, reply_to }
    }
}

impl From<RpcError> for contract::RpcError {
    fn from(RpcError { code, message, data }: RpcError) -> Self {
        Self { code, message, data }
    }
}

impl From<contract::RpcError> for RpcError {
    fn from(contract::RpcError { code, message, data }: contract::RpcError) -> Self {
        Self { code, message, data }
    }
}

impl From<contract::SendOptions> for SendOptions {
    fn from(options: contract::SendOptions) -> Self {
        // A room that is joined sends each thing once. What is sent again after the loss of a worker, its journal knows.
        let contract::SendOptions { destinations, attributes, stream_id, sender, reply_to, repeatable: _ } = options;
        Self { destinations, attributes, stream_id, sender, reply_to }
    }
}

impl From<room::Transcription> for Transcription {
    fn from(options: room::Transcription) -> Self {
        let room::Transcription { segment_id, speaker, track_sid, language, attributes, is_final } = options;
        Self { segment_id, speaker, track_sid, language, attributes, is_final }
    }
}

impl From<room::Receipt> for Receipt {
    fn from(receipt: room::Receipt) -> Self {
        match receipt {
            room::Receipt::Whole => Self::Whole,
            room::Receipt::Parts => Self::Parts,
            room::Receipt::None => Self::None,
        }
    }
}

impl From<room::AgentState> for command::AgentState {
    fn from(state: room::AgentState) -> Self {
        match state {
            room::AgentState::Initializing => Self::Initializing,
            room::AgentState::Idle => Self::Idle,
            room::AgentState::Listening => Self::Listening,
            room::AgentState::Thinking => Self::Thinking,
            room::AgentState::Speaking => Self::Speaking,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_facts_of_a_participant_stay() {
        let permissions = Permissions { subscribe: true, hidden: true, ..Permissions::default() };
        let (kind, state) = (ParticipantKind::Bridge, ParticipantState::Active);
        let who = Participant {
            identity: "ann".into(),
            kind,
            state,
            permissions,
            joined_at_ms: 5.0,
            ..Participant::default()
        };
        let who = contract::Participant::from(who);
        assert_eq!((&*who.identity, who.joined_at_ms), ("ann", 5.0));
        assert_eq!((who.kind, who.state), (contract::ParticipantKind::Bridge, contract::ParticipantState::Active));
        assert_eq!(who.permissions, contract::Permissions::SUBSCRIBE | contract::Permissions::HIDDEN);
        let changes = event::ParticipantChanges { state: true, name: true, ..event::ParticipantChanges::default() };
        let changes = events::ParticipantChanges::from(changes);
        assert_eq!(changes, events::ParticipantChanges::STATE | events::ParticipantChanges::NAME);
    }
}

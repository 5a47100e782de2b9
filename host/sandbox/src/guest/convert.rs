//! Conversions between the plain data of `wasm-worker-core` and the records of the contract. Texts are moved, not copied.
//!
//! A job's description knows less of a room and of its participants than the contract: times are 0, a participant is active.

use wasm_worker_core::job::{Acceptance, JobInfo, JobKind, Participant, ParticipantKind, RoomInfo};

use super::contract;

impl From<JobInfo> for contract::JobInfo {
    fn from(info: JobInfo) -> Self {
        let JobInfo { id, dispatch_id, kind, room, participant, metadata, attributes, agent_name, attempt } = info;
        Self {
            id,
            dispatch_id,
            kind: match kind {
                JobKind::Room => contract::JobKind::Room,
                JobKind::Publisher => contract::JobKind::Publisher,
                JobKind::Participant => contract::JobKind::Participant,
            },
            room: room.into(),
            participant: participant.map(Into::into),
            metadata,
            attributes,
            agent_name,
            attempt,
        }
    }
}

impl From<Participant> for contract::Participant {
    fn from(participant: Participant) -> Self {
        let Participant { sid, identity, name, metadata, attributes, kind } = participant;
        let kind = match kind {
            ParticipantKind::Standard => contract::ParticipantKind::Standard,
            ParticipantKind::Ingress => contract::ParticipantKind::Ingress,
            ParticipantKind::Egress => contract::ParticipantKind::Egress,
            ParticipantKind::Sip => contract::ParticipantKind::Sip,
            ParticipantKind::Agent => contract::ParticipantKind::Agent,
            ParticipantKind::Connector => contract::ParticipantKind::Connector,
            ParticipantKind::Other => contract::ParticipantKind::Other,
        };
        let permissions =
            contract::Permissions::SUBSCRIBE | contract::Permissions::PUBLISH | contract::Permissions::PUBLISH_DATA;
        let state = contract::ParticipantState::Active;
        Self { sid, identity, name, metadata, attributes, kind, state, permissions, joined_at_ms: 0.0 }
    }
}

impl From<RoomInfo> for contract::RoomInfo {
    fn from(room: RoomInfo) -> Self {
        let RoomInfo { sid, name, metadata } = room;
        let (attributes, created_at_ms) = (Vec::new(), 0.0);
        Self { sid, name, metadata, attributes, created_at_ms, participants: 0, recorded: false }
    }
}

impl From<contract::Acceptance> for Acceptance {
    fn from(acceptance: contract::Acceptance) -> Self {
        let contract::Acceptance { identity, name, metadata, attributes } = acceptance;
        Self { identity, name, metadata, attributes }
    }
}

/// Counters cross the contract as `f64`, exact to 2^53.
#[expect(clippy::cast_precision_loss, reason = "no counter of one job comes near 2^53")]
pub(crate) fn exact(count: u64) -> f64 {
    count as f64
}

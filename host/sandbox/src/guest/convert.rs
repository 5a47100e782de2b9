//! Conversions between the plain data of `wasm-worker-core` and the records of the contract. Texts are moved, not copied.

use wasm_worker_core::job::{Acceptance, JobInfo, JobKind, Participant, ParticipantKind, RoomInfo};

use super::contract;

impl From<JobInfo> for contract::JobInfo {
    fn from(info: JobInfo) -> Self {
        let JobInfo { id, dispatch_id, kind, room, participant, metadata, attributes, agent_name, attempt } = info;
        let RoomInfo { sid, name, metadata: room_metadata } = room;
        Self {
            id,
            dispatch_id,
            kind: match kind {
                JobKind::Room => contract::JobKind::Room,
                JobKind::Publisher => contract::JobKind::Publisher,
                JobKind::Participant => contract::JobKind::Participant,
            },
            room: contract::RoomInfo { sid, name, metadata: room_metadata },
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
        Self { sid, identity, name, metadata, attributes, kind }
    }
}

impl From<contract::Acceptance> for Acceptance {
    fn from(acceptance: contract::Acceptance) -> Self {
        let contract::Acceptance { identity, name, metadata, attributes } = acceptance;
        Self { identity, name, metadata, attributes }
    }
}

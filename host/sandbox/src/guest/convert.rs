//! Conversions between the plain data of `wasm-worker-core` and the records of the contract. Texts are moved, not copied.
//!
//! A job's description knows less of a room than the contract: its time is 0. Participants are in `convert_room`.

use wasm_worker_core::job::{Acceptance, JobInfo, JobKind, RoomInfo};

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

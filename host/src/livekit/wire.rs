//! Between LiveKit's messages and ours. Values of enums that are not known here become the most general one that is.

use livekit_protocol as proto;

use crate::config::JobType;
use crate::hostcalls::contract::{JobInfo, JobKind, Participant, ParticipantKind, RoomInfo};

/// Which attempt of its dispatch a job is, among its attributes, from the second one on: the protocol has no field for it.
pub(crate) const ATTEMPT_ATTRIBUTE: &str = "wasm-worker.attempt";

pub(crate) fn job_type(job_type: JobType) -> i32 {
    match job_type {
        JobType::Room => proto::JobType::JtRoom as i32,
        JobType::Publisher => proto::JobType::JtPublisher as i32,
        JobType::Participant => proto::JobType::JtParticipant as i32,
    }
}

pub(crate) fn job_info(job: &proto::Job) -> JobInfo {
    let room = job.room.clone().unwrap_or_default();
    let mut attributes: Vec<(String, String)> = job.attributes.clone().into_iter().collect();
    // Of our own dispatcher; the protocol has no field for it.
    let attempt = attributes.extract_if(.., |(name, _)| name == ATTEMPT_ATTRIBUTE).next();
    JobInfo {
        id: job.id.clone(),
        dispatch_id: job.dispatch_id.clone(),
        kind: match proto::JobType::try_from(job.r#type) {
            Ok(proto::JobType::JtPublisher) => JobKind::Publisher,
            Ok(proto::JobType::JtParticipant) => JobKind::Participant,
            Ok(proto::JobType::JtRoom) | Err(_) => JobKind::Room,
        },
        room: RoomInfo { sid: room.sid, name: room.name, metadata: room.metadata },
        participant: job.participant.as_ref().map(participant),
        metadata: job.metadata.clone(),
        attributes,
        agent_name: job.agent_name.clone(),
        attempt: attempt.and_then(|(_, attempt)| attempt.parse().ok()).unwrap_or(1),
    }
}

fn participant(info: &proto::ParticipantInfo) -> Participant {
    use proto::participant_info::Kind;
    Participant {
        sid: info.sid.clone(),
        identity: info.identity.clone(),
        name: info.name.clone(),
        metadata: info.metadata.clone(),
        attributes: info.attributes.clone().into_iter().collect(),
        kind: match Kind::try_from(info.kind) {
            Ok(Kind::Standard) => ParticipantKind::Standard,
            Ok(Kind::Ingress) => ParticipantKind::Ingress,
            Ok(Kind::Egress) => ParticipantKind::Egress,
            Ok(Kind::Sip) => ParticipantKind::Sip,
            Ok(Kind::Agent) => ParticipantKind::Agent,
            Ok(Kind::Connector) => ParticipantKind::Connector,
            Ok(Kind::Bridge) | Err(_) => ParticipantKind::Other,
        },
    }
}

//! Conversion between LiveKit's messages and plain data. An enum value that this version does not know becomes the most general
//! one.

use livekit_protocol as proto;

use wasm_worker_core::job::{JobInfo, JobKind, Participant, ParticipantKind, RoomInfo};

/// The job attribute with the number of the attempt, from the second one on. LiveKit's protocol has no field for it.
pub const ATTEMPT_ATTRIBUTE: &str = "wasm-worker.attempt";

/// The number of LiveKit's `JobType` for a kind of job.
pub fn job_type(kind: JobKind) -> i32 {
    match kind {
        JobKind::Room => proto::JobType::JtRoom as i32,
        JobKind::Publisher => proto::JobType::JtPublisher as i32,
        JobKind::Participant => proto::JobType::JtParticipant as i32,
    }
}

/// The kind of job for the number of LiveKit's `JobType`.
pub fn job_kind(job_type: i32) -> JobKind {
    match proto::JobType::try_from(job_type) {
        Ok(proto::JobType::JtPublisher) => JobKind::Publisher,
        Ok(proto::JobType::JtParticipant) => JobKind::Participant,
        Ok(proto::JobType::JtRoom) | Err(_) => JobKind::Room,
    }
}

/// The facts of a job in LiveKit's message.
pub fn job_info(job: &proto::Job) -> JobInfo {
    let room = job.room.clone().unwrap_or_default();
    let mut attributes: Vec<(String, String)> = job.attributes.clone().into_iter().collect();
    // The embedded dispatcher passes the attempt as an attribute.
    let attempt = attributes.extract_if(.., |(name, _)| name == ATTEMPT_ATTRIBUTE).next();
    JobInfo {
        id: job.id.clone(),
        dispatch_id: job.dispatch_id.clone(),
        kind: job_kind(job.r#type),
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

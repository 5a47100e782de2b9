//! Conversion between LiveKit's messages and plain data. An enum value that this version does not know becomes the most general
//! one.

use livekit_protocol as proto;

use wasm_worker_core::job::{JobInfo, JobKind, RoomInfo};
use wasm_worker_core::room::people::{Participant, ParticipantKind, ParticipantState, Permissions};

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
    use proto::participant_info::{Kind, State};
    Participant {
        sid: info.sid.clone(),
        identity: info.identity.clone(),
        name: info.name.clone(),
        metadata: info.metadata.clone(),
        attributes: info.attributes.clone().into_iter().filter(|(name, _)| !name.starts_with('@')).collect(),
        kind: match Kind::try_from(info.kind) {
            Ok(Kind::Standard) => ParticipantKind::Standard,
            Ok(Kind::Ingress) => ParticipantKind::Ingress,
            Ok(Kind::Egress) => ParticipantKind::Egress,
            Ok(Kind::Sip) => ParticipantKind::Sip,
            Ok(Kind::Agent) => ParticipantKind::Agent,
            Ok(Kind::Connector) => ParticipantKind::Connector,
            Ok(Kind::Bridge) => ParticipantKind::Bridge,
            Err(_) => ParticipantKind::Other,
        },
        state: match State::try_from(info.state) {
            Ok(State::Joining) | Err(_) => ParticipantState::Joining,
            Ok(State::Joined) => ParticipantState::Joined,
            Ok(State::Active) => ParticipantState::Active,
            Ok(State::Disconnected) => ParticipantState::Left,
        },
        permissions: info.permission.as_ref().map(permissions).unwrap_or_default(),
        joined_at_ms: joined_at_ms(info),
    }
}

fn permissions(of: &proto::ParticipantPermission) -> Permissions {
    Permissions {
        subscribe: of.can_subscribe,
        publish: of.can_publish,
        publish_data: of.can_publish_data,
        update_own: of.can_update_metadata,
        hidden: of.hidden,
        subscribe_metrics: of.can_subscribe_metrics,
        manage_agent_session: of.can_manage_agent_session,
    }
}

/// A server tells the time in seconds, and if it is new enough in milliseconds too.
#[expect(clippy::cast_precision_loss, reason = "times of this era are far below 2^53 ms")]
fn joined_at_ms(info: &proto::ParticipantInfo) -> f64 {
    if info.joined_at_ms > 0 { info.joined_at_ms as f64 } else { info.joined_at as f64 * 1_000.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_participant_of_a_job_has_the_facts_that_the_server_tells() {
        let permission = proto::ParticipantPermission { can_publish: true, hidden: true, ..Default::default() };
        let info = proto::ParticipantInfo {
            identity: "ann".into(),
            kind: proto::participant_info::Kind::Bridge as i32,
            state: proto::participant_info::State::Active as i32,
            joined_at: 3,
            permission: Some(permission),
            attributes: [("a", "1"), ("@kind-detail", "forged")].map(|(n, v)| (n.into(), v.into())).into(),
            ..Default::default()
        };
        let newer = proto::ParticipantInfo { joined_at_ms: 3_500, kind: 99, state: 99, ..info.clone() };
        let job = proto::Job { participant: Some(info), ..Default::default() };
        let who = job_info(&job).participant.unwrap();
        assert_eq!((who.kind, who.state), (ParticipantKind::Bridge, ParticipantState::Active));
        assert_eq!(who.permissions, Permissions { publish: true, hidden: true, ..Permissions::default() });
        assert_eq!((&*who.identity, who.joined_at_ms), ("ann", 3_000.0));
        assert_eq!(
            who.attributes,
            [("a".to_owned(), "1".to_owned())],
            "names of the contract do not come from outside"
        );
        let who = participant(&newer);
        assert_eq!(
            (who.kind, who.state, who.joined_at_ms),
            (ParticipantKind::Other, ParticipantState::Joining, 3_500.0)
        );
    }
}

//! The meaning of the frames of a worker, without the state of the connection.

use livekit_protocol as proto;
use prost::Message as _;
use proto::worker_message::Message as FromWorker;
use wasm_worker_core::load::Scarcity;
use wasm_worker_core::text::clip;

use super::{DispatchKey, Encoding, NAME_BYTES_MAX, Readiness, Received, WorkerMessage, WorkerRegistration};
use crate::registration::check_deployment;
use crate::report::{self, Report};

/// The message, and its report with the fields that LiveKit's own message lacks.
pub(super) fn decode(encoding: Encoding, bytes: &[u8]) -> Result<(Option<FromWorker>, Option<Report>), String> {
    match encoding {
        Encoding::Binary => {
            let message = proto::WorkerMessage::decode(bytes)
                .map_err(|error| clip(&format!("received a frame that is not protobuf: {error}")))?;
            let report =
                matches!(message.message, Some(FromWorker::UpdateJob(_))).then(|| report::decode(bytes)).flatten();
            Ok((message.message, report))
        }
        Encoding::Json => {
            let message: proto::WorkerMessage = serde_json::from_slice(bytes)
                .map_err(|error| clip(&format!("received a frame that is not a JSON message: {error}")))?;
            Ok((message.message, None))
        }
    }
}

pub(super) fn worker_registration(request: proto::RegisterWorkerRequest) -> Result<WorkerRegistration, String> {
    let job_type =
        proto::JobType::try_from(request.r#type).map_err(|_| format!("unknown job type {}", request.r#type))?;
    check_deployment(&request.deployment).map_err(|why| format!("invalid deployment name: {why}"))?;
    let texts = [("name", &request.agent_name), ("instance", &request.instance_id), ("version", &request.version)];
    if let Some((field, _)) = texts.iter().find(|(_, text)| text.len() > NAME_BYTES_MAX) {
        return Err(format!("the {field} of the worker has more than {NAME_BYTES_MAX} bytes"));
    }
    // No dispatch can have such a name either.
    if request.agent_name.contains(char::is_control) {
        return Err("the name of the worker has control characters".into());
    }
    let dispatch_key =
        DispatchKey { agent: request.agent_name, job_type: job_type as i32, deployment: request.deployment };
    // The default of LiveKit's server.
    let default_permissions = || proto::ParticipantPermission {
        can_subscribe: true,
        can_publish: true,
        can_publish_data: true,
        can_update_metadata: true,
        ..Default::default()
    };
    Ok(WorkerRegistration {
        dispatch_key,
        instance: clip(&request.instance_id),
        version: clip(&request.version),
        permissions: request.allowed_permissions.unwrap_or_else(default_permissions),
    })
}

pub(super) fn worker_message(message: FromWorker, report: Option<Report>) -> Received {
    match message {
        FromWorker::Availability(mut answer) => {
            // An identity that is no name counts as none; the scheduler then derives one from the job.
            if !is_name(&answer.participant_identity) {
                answer.participant_identity.clear();
            }
            Received::Message(WorkerMessage::Answer(answer))
        }
        FromWorker::UpdateJob(proto::UpdateJobStatus { job_id, status, error }) => {
            job_report(report.unwrap_or(Report { job_id, status, error, ..Report::default() }))
        }
        // `Session::receive` handles them.
        FromWorker::Register(_)
        | FromWorker::Ping(_)
        | FromWorker::SimulateJob(_)
        | FromWorker::MigrateJob(_)
        | FromWorker::UpdateWorker(_) => Received::Nothing,
    }
}

pub(super) fn status_message(status: proto::UpdateWorkerStatus, scarce: Option<Scarcity>) -> WorkerMessage {
    let (load, full) = (status.load, status.status == Some(proto::WorkerStatus::WsFull as i32));
    match (status.draining, full, scarce) {
        (true, ..) => WorkerMessage::Status { load, readiness: Readiness::Draining },
        (false, true, Some(scarce)) => WorkerMessage::Full { load, scarce },
        (false, true, None) => WorkerMessage::Status { load, readiness: Readiness::Full },
        (false, false, _) => WorkerMessage::Status { load, readiness: Readiness::Available },
    }
}

/// The jobs of a migration, as many as are left of [`super::MIGRATED_JOBS_MAX`].
pub(super) fn migrated(migrate: proto::MigrateJobRequest, left: &mut usize) -> Received {
    let valid = |job: &String| !job.is_empty() && is_name(job);
    let jobs: Vec<String> = migrate.job_ids.into_iter().filter(valid).take(*left).collect();
    *left -= jobs.len();
    if jobs.is_empty() { Received::Nothing } else { Received::Message(WorkerMessage::Migrate { jobs }) }
}

/// Whether a text of a worker can be a name or an id.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control)
}

fn job_report(report: Report) -> Received {
    let job = report.job_id.clone();
    let running = report.status == proto::JobStatus::JsRunning as i32;
    match report.end() {
        Some(end) => Received::Message(WorkerMessage::Ended { job, end }),
        None if running => Received::Message(WorkerMessage::Running { job }),
        None => Received::Nothing,
    }
}

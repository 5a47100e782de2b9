//! The HTTP endpoints of a worker.
//!
//! ```text
//! GET  /                   200 OK, 503 once the server was given up; as LiveKit's workers answer
//! GET  /live               200 while the process answers
//! GET  /ready              200 while every agent takes jobs; 503 with the reason
//! GET  /metrics            metrics for Prometheus
//! GET  /worker        v1   the worker, its agents and its load; the first fields as LiveKit's workers answer
//! GET  /jobs          v1   the jobs that run, and the jobs that ended last      (token)
//! GET  /jobs/ID       v1   one job; an agent that runs is asked for its tasks   (token)
//! GET  /jobs/ID/logs  v1   the log lines of one job, from `?after=NUMBER` on    (token; under /api/v1 only)
//! POST /jobs/ID/kill  v1   kill one job                                         (token)
//! POST /drain         v1   take no more jobs, and end after the last one        (token)
//! GET  /events        v1   server-sent events, from now on                      (token)
//! ```
//!
//! Paths with `v1` are served under `/api/v1` too.

use std::sync::Arc;

use axum::extract::{FromRef, Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::Deserialize;
use wasm_worker_core::api::worker::{AgentState, JobList, Killing, WorkerInfo};
use wasm_worker_core::job::JobKind;
use wasm_worker_dispatcher::METRICS_TYPE;
use wasm_worker_sandbox::engine::Engine;

use super::control::ControlApi;
use super::problem::problem;
use super::routes::{self, Access, Mount, Route};
use crate::observers::metrics::Metrics;
use crate::worker::admission::AdmissionControl;
use crate::worker::status::WorkerStatus;

/// The version of LiveKit's protocol between workers and servers.
const PROTOCOL_VERSION: u32 = 1;

/// The state behind the endpoints.
#[derive(Clone)]
pub(crate) struct HttpState {
    pub(crate) control: ControlApi,
    pub(crate) status: Arc<WorkerStatus>,
    pub(crate) admission: Arc<AdmissionControl>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) engine: Engine,
    pub(crate) job_kind: JobKind,
}

impl FromRef<HttpState> for ControlApi {
    fn from_ref(state: &HttpState) -> Self {
        state.control.clone()
    }
}

/// The router of a worker.
pub(crate) fn router(state: HttpState) -> Router {
    routes::router(table(), state)
}

/// All routes of a worker.
pub(super) fn table() -> Vec<Route<HttpState>> {
    let mut table = vec![
        Route::get("/", Mount::Root, Access::Public, health),
        Route::get("/ready", Mount::Root, Access::Public, ready),
        Route::get("/metrics", Mount::Root, Access::Public, metrics),
        Route::get("/worker", Mount::RootAndV1, Access::Public, worker),
        Route::get("/jobs", Mount::RootAndV1, Access::Token, jobs),
        Route::get("/jobs/{id}", Mount::RootAndV1, Access::Token, job),
        Route::get("/jobs/{id}/logs", Mount::V1, Access::Token, job_logs),
        Route::post("/jobs/{id}/kill", Mount::RootAndV1, Access::Token, kill),
    ];
    table.extend(routes::common_routes());
    table
}

/// Healthy until the server was given up, as LiveKit's workers answer.
async fn health(State(state): State<HttpState>) -> Response {
    match state.status.agents().iter().any(|agent| agent.state == AgentState::GivenUp) {
        true => (StatusCode::SERVICE_UNAVAILABLE, "failed to connect to livekit").into_response(),
        false => "OK".into_response(),
    }
}

async fn ready(State(state): State<HttpState>) -> Response {
    if state.control.is_draining() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "draining");
    }
    let unready = state.status.agents().into_iter().find_map(|agent| match (agent.state, agent.worker) {
        (AgentState::Available, Some(_)) => None,
        (AgentState::Available, None) => Some(format!("agent `{}` has no connection to the server", agent.agent)),
        (unavailable, _) => Some(format!("agent `{}` is {}", agent.agent, unavailable.as_str())),
    });
    match unready {
        Some(why) => problem(StatusCode::SERVICE_UNAVAILABLE, why),
        None => "ready".into_response(),
    }
}

async fn metrics(State(state): State<HttpState>) -> Response {
    let (sample, load) = state.admission.measured();
    state.metrics.read_worker(&state.engine, sample, load, state.admission.descriptors());
    state.metrics.read_rooms(&state.status.take_room_uses());
    ([(CONTENT_TYPE, METRICS_TYPE)], state.metrics.text(state.control.lines())).into_response()
}

async fn worker(State(state): State<HttpState>) -> Json<WorkerInfo> {
    let (sample, load) = state.admission.measured();
    let agents = state.status.agents();
    let worker_type = match state.job_kind {
        JobKind::Room => "JT_ROOM",
        JobKind::Publisher => "JT_PUBLISHER",
        JobKind::Participant => "JT_PARTICIPANT",
    };
    Json(WorkerInfo {
        worker_type: worker_type.into(),
        agent_name: agents.first().map(|agent| agent.agent.clone()).unwrap_or_default(),
        active_jobs: state.status.running_count(),
        sdk_version: env!("CARGO_PKG_VERSION").into(),
        worker_load: load,
        protocol_version: PROTOCOL_VERSION,
        agents,
        draining: state.control.is_draining(),
        sample,
    })
}

async fn jobs(State(state): State<HttpState>) -> Json<JobList> {
    Json(state.status.jobs())
}

async fn job(State(state): State<HttpState>, Path(id): Path<String>) -> Response {
    match state.status.look_at(&id).await {
        Some(job) => Json(job).into_response(),
        None => no_such_job(&id),
    }
}

/// The query of a request for log lines.
#[derive(Deserialize)]
struct LogQuery {
    /// The number of the first line that is wanted.
    #[serde(default)]
    after: u64,
}

async fn job_logs(
    State(state): State<HttpState>,
    Path(id): Path<String>,
    Query(LogQuery { after }): Query<LogQuery>,
) -> Response {
    match state.status.job_log(&id, after) {
        Some(log) => Json(log).into_response(),
        None => no_such_job(&id),
    }
}

async fn kill(State(state): State<HttpState>, Path(id): Path<String>) -> Response {
    if state.status.kill(&id) {
        return (StatusCode::ACCEPTED, Json(Killing { job: id, state: "killing".into() })).into_response();
    }
    match state.status.job(&id) {
        Some(_) => problem(StatusCode::CONFLICT, format!("job `{id}` has ended")),
        None => no_such_job(&id),
    }
}

fn no_such_job(id: &str) -> Response {
    problem(StatusCode::NOT_FOUND, format!("this worker has no job `{id}`"))
}

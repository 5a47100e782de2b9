//! What a worker answers over HTTP.
//!
//! ```text
//! GET  /                 200 OK, 503 once the server was given up; as LiveKit's workers have it
//! GET  /worker           what the worker is; as LiveKit's workers have it
//! GET  /live             200 while the process answers
//! GET  /ready            200 while every agent takes jobs or could; 503 with the reason
//! GET  /metrics          for Prometheus
//! GET  /jobs             the jobs that run, and the last that ended      (token)
//! GET  /jobs/ID          one of them                                     (token)
//! POST /jobs/ID/kill     end one                                         (token)
//! POST /drain            take no more jobs, and end when there are none  (token)
//! GET  /events           server-sent events, from now on                 (token)
//! ```
//!
//! What reveals or changes needs `Authorization: Bearer TOKEN`.
//!
//! The bounds are those of [`door`] and of [`wasm_worker_dispatcher::connections`].

pub(crate) mod door;
pub(crate) mod fleet;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use wasm_worker_core::job::JobKind;
use wasm_worker_dispatcher::METRICS_TYPE;
use wasm_worker_sandbox::engine::Engine;

use crate::config::HttpBind;
use crate::observers::metrics::Metrics;
use crate::worker::room::Room;
use crate::worker::roster::{Found, Roster};
use door::Door;

/// Of LiveKit's workers.
const PORT: u16 = 8081;
/// Of LiveKit's protocol between workers and servers.
const PROTOCOL_VERSION: u32 = 1;

/// What is shown.
pub(crate) struct Site {
    pub(crate) door: Arc<Door>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) room: Arc<Room>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) engine: Engine,
    pub(crate) job_type: JobKind,
}

/// Take the address, so that it is known before anything is served. `Auto` gives way to whoever has LiveKit's port.
pub(crate) async fn bind(to: HttpBind) -> io::Result<Option<TcpListener>> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match to {
        HttpBind::Off => Ok(None),
        HttpBind::At(address) => TcpListener::bind(address).await.map(Some),
        HttpBind::Auto => match TcpListener::bind(loopback(PORT)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => TcpListener::bind(loopback(0)).await.map(Some),
            bound => bound.map(Some),
        },
    }
}

/// Every page.
pub(crate) fn router(site: Site) -> Router {
    let site = Arc::new(site);
    let jobs = Router::new()
        .route("/jobs", get(jobs))
        .route("/jobs/{id}", get(job))
        .route("/jobs/{id}/kill", post(kill))
        .with_state(site.clone());
    let behind_token = site.door.guard(jobs);
    Router::new()
        .route("/", get(health))
        .route("/worker", get(worker))
        .route("/live", get(|| async { "live" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(site)
        .merge(behind_token)
        .fallback(no_such_page)
}

type Shown = State<Arc<Site>>;

/// As long as an attempt to reach the server is still to come, LiveKit's workers are well.
async fn health(State(site): Shown) -> Response {
    match site.roster.agents().iter().any(|agent| agent.state == "given-up") {
        true => (StatusCode::SERVICE_UNAVAILABLE, "failed to connect to livekit").into_response(),
        false => "OK".into_response(),
    }
}

async fn worker(State(site): Shown) -> Json<Value> {
    let (sample, load) = site.room.measured();
    let agents = site.roster.agents();
    let worker_type = match site.job_type {
        JobKind::Room => "JT_ROOM",
        JobKind::Publisher => "JT_PUBLISHER",
        JobKind::Participant => "JT_PARTICIPANT",
    };
    Json(json!({
        "worker_type": worker_type,
        "agent_name": agents.first().map(|agent| agent.agent.clone()).unwrap_or_default(),
        "active_jobs": site.roster.jobs().0.len(),
        "sdk_version": env!("CARGO_PKG_VERSION"),
        "worker_load": load,
        "protocol_version": PROTOCOL_VERSION,
        "agents": agents,
        "draining": site.door.is_draining(),
        "sample": sample,
    }))
}

async fn ready(State(site): Shown) -> Response {
    if site.door.is_draining() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "draining");
    }
    let unready = site.roster.agents().into_iter().find_map(|agent| match (&agent.worker, agent.state) {
        (_, state) if state != "available" => Some(format!("agent `{}` is {state}", agent.agent)),
        (None, _) => Some(format!("agent `{}` has no connection to the server", agent.agent)),
        (Some(_), _) => None,
    });
    match unready {
        Some(why) => problem(StatusCode::SERVICE_UNAVAILABLE, &why),
        None => "ready".into_response(),
    }
}

async fn metrics(State(site): Shown) -> Response {
    let (sample, load) = site.room.measured();
    site.metrics.read_worker(&site.engine, sample, load);
    ([(CONTENT_TYPE, METRICS_TYPE)], site.metrics.text(site.door.lines())).into_response()
}

async fn jobs(State(site): Shown) -> Json<Value> {
    let (running, ended) = site.roster.jobs();
    let ended: Vec<Value> = ended
        .iter()
        .map(|closed| {
            json!({
                "job": closed.job, "agent": closed.agent, "room": closed.room, "at": closed.at,
                "code": closed.verdict.code, "detail": closed.verdict.detail,
            })
        })
        .collect();
    Json(json!({ "running": running, "ended": ended }))
}

async fn job(State(site): Shown, Path(id): Path<String>) -> Response {
    match site.roster.job(&id) {
        Some(Found::Running(job)) => Json(json!({ "state": "running", "job": job })).into_response(),
        Some(Found::Ended(closed)) => Json(json!({ "state": "ended", "job": &*closed })).into_response(),
        None => unknown(&id),
    }
}

async fn kill(State(site): Shown, Path(id): Path<String>) -> Response {
    if site.roster.kill(&id) {
        return (StatusCode::ACCEPTED, Json(json!({ "job": id, "state": "killing" }))).into_response();
    }
    match site.roster.job(&id) {
        Some(_) => problem(StatusCode::CONFLICT, &format!("job `{id}` has ended")),
        None => unknown(&id),
    }
}

fn unknown(id: &str) -> Response {
    problem(StatusCode::NOT_FOUND, &format!("no job `{id}` here"))
}

async fn no_such_page() -> Response {
    problem(StatusCode::NOT_FOUND, "no such page; see `/worker`, `/ready`, `/metrics`, `/jobs`")
}

fn problem(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

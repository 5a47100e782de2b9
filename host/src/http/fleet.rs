//! The HTTP endpoints of the supervisor of several worker processes. Each process has endpoints of its own.
//!
//! ```text
//! GET  /             200 OK
//! GET  /live         200 while the supervisor answers
//! GET  /ready        200 while a process is registered with the server; 503 with the reason
//! GET  /metrics      metrics of the supervisor: lost jobs, deaths of processes, the sinks
//! GET  /worker  v1   the number of processes that are wanted, run, and are registered
//! POST /drain   v1   all processes take no more jobs, and end after the last one  (token)
//! GET  /events  v1   server-sent events of all processes, from now on             (token)
//! ```
//!
//! Paths with `v1` are served under `/api/v1` too.

use std::sync::Arc;

use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use wasm_worker_core::api::worker::FleetInfo;
use wasm_worker_dispatcher::METRICS_TYPE;

use super::control::ControlApi;
use super::problem::problem;
use super::routes::{self, Access, Mount, Route};
use crate::fleet::status::{FleetStatus, ProcessCounts};
use crate::observers::metrics::Metrics;

/// The state behind the endpoints.
#[derive(Clone)]
pub(crate) struct FleetHttpState {
    pub(crate) control: ControlApi,
    pub(crate) status: Arc<FleetStatus>,
    pub(crate) metrics: Arc<Metrics>,
}

impl FromRef<FleetHttpState> for ControlApi {
    fn from_ref(state: &FleetHttpState) -> Self {
        state.control.clone()
    }
}

/// The router of a supervisor.
pub(crate) fn router(state: FleetHttpState) -> Router {
    routes::router(table(), state)
}

/// All routes of a supervisor.
pub(super) fn table() -> Vec<Route<FleetHttpState>> {
    let mut table = vec![
        Route::get("/", Mount::Root, Access::Public, || async { "OK" }),
        Route::get("/ready", Mount::Root, Access::Public, ready),
        Route::get("/metrics", Mount::Root, Access::Public, metrics),
        Route::get("/worker", Mount::RootAndV1, Access::Public, worker),
    ];
    table.extend(routes::common_routes());
    table
}

async fn worker(State(state): State<FleetHttpState>) -> Json<FleetInfo> {
    let ProcessCounts { running, registered } = state.status.counts();
    Json(FleetInfo {
        sdk_version: env!("CARGO_PKG_VERSION").into(),
        processes: state.status.processes(),
        running,
        registered,
        draining: state.control.is_draining(),
    })
}

async fn ready(State(state): State<FleetHttpState>) -> Response {
    if state.control.is_draining() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "draining");
    }
    match state.status.counts().registered {
        0 => problem(StatusCode::SERVICE_UNAVAILABLE, "no worker process has a connection to the server"),
        _ => "ready".into_response(),
    }
}

async fn metrics(State(state): State<FleetHttpState>) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], state.metrics.text(state.control.lines())).into_response()
}

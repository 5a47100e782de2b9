//! What the supervisor of several worker processes answers over HTTP; each of them has pages of its own.
//!
//! ```text
//! GET  /         200 OK
//! GET  /worker   how many processes there are to be, and how many there are
//! GET  /live     200 while the supervisor answers
//! GET  /ready    200 while a process has its server; 503 with the reason
//! GET  /metrics  the supervisor's own: lost jobs, deaths of processes, the sinks
//! POST /drain    all processes take no more jobs, and end when there are none  (token)
//! GET  /events   server-sent events of all processes, from now on              (token)
//! ```

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use wasm_worker_dispatcher::METRICS_TYPE;

use super::door::Door;
use super::{no_such_page, problem};
use crate::fleet::{Counts, FleetStatus};
use crate::observers::metrics::Metrics;

/// What is shown.
pub(crate) struct FleetSite {
    pub(crate) door: Arc<Door>,
    pub(crate) status: Arc<FleetStatus>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Every page.
pub(crate) fn router(site: FleetSite) -> Router {
    let behind_token = site.door.guard(Router::new());
    Router::new()
        .route("/", get(|| async { "OK" }))
        .route("/worker", get(worker))
        .route("/live", get(|| async { "live" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(site))
        .merge(behind_token)
        .fallback(no_such_page)
}

type Shown = State<Arc<FleetSite>>;

async fn worker(State(site): Shown) -> Json<Value> {
    let Counts { running, registered } = site.status.counts();
    Json(json!({
        "sdk_version": env!("CARGO_PKG_VERSION"),
        "processes": site.status.processes(),
        "running": running,
        "registered": registered,
        "draining": site.door.is_draining(),
    }))
}

async fn ready(State(site): Shown) -> Response {
    if site.door.is_draining() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "draining");
    }
    match site.status.counts().registered {
        0 => problem(StatusCode::SERVICE_UNAVAILABLE, "no worker process has a connection to the server"),
        _ => "ready".into_response(),
    }
}

async fn metrics(State(site): Shown) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], site.metrics.text(site.door.lines())).into_response()
}

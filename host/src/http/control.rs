//! The control endpoints of a worker or a supervisor: drain, and the stream of events. The check of the bearer token is here too.
//!
//! Bounds: [`FOLLOWERS_MAX`] followers of events; a follower that is too slow misses events, and receives their number.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use wasm_worker_core::api::worker::Draining;
use wasm_worker_core::secret::Secret;

use super::problem::problem;
use crate::observers::EventLines;
use crate::worker::control_signal::ControlSignal;

const FOLLOWERS_MAX: usize = 64;

/// The state behind the control endpoints.
#[derive(Clone)]
pub(crate) struct ControlApi {
    token: Arc<Secret>,
    lines: Arc<EventLines>,
    signals: mpsc::Sender<ControlSignal>,
    /// Whether the worker drains. A drain request sets it at once: a busy agent notices the signal later.
    draining: Arc<AtomicBool>,
    followers: Arc<Semaphore>,
}

impl ControlApi {
    pub(crate) fn new(
        token: Secret,
        lines: Arc<EventLines>,
        signals: mpsc::Sender<ControlSignal>,
        draining: Arc<AtomicBool>,
    ) -> Self {
        let followers = Arc::new(Semaphore::new(FOLLOWERS_MAX));
        Self { token: Arc::new(token), lines, signals, draining, followers }
    }

    pub(super) fn lines(&self) -> &EventLines {
        &self.lines
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Require the token for these routes.
    pub(super) fn protect<S: Clone + Send + Sync + 'static>(&self, routes: Router<S>) -> Router<S> {
        routes.route_layer(middleware::from_fn_with_state(self.clone(), check_token))
    }
}

/// `POST /drain`
pub(super) async fn drain(State(control): State<ControlApi>) -> Response {
    control.draining.store(true, Ordering::Relaxed);
    match control.signals.send(ControlSignal::Drain).await {
        Ok(()) => (StatusCode::ACCEPTED, Json(Draining { state: "draining".into() })).into_response(),
        Err(_) => problem(StatusCode::CONFLICT, "the worker has ended"),
    }
}

/// `GET /events`
pub(super) async fn events(State(control): State<ControlApi>) -> Response {
    match control.followers.clone().try_acquire_owned() {
        Ok(permit) => {
            Sse::new(stream_of(control.lines.follow(), permit)).keep_alive(KeepAlive::default()).into_response()
        }
        Err(_) => problem(StatusCode::TOO_MANY_REQUESTS, format!("at most {FOLLOWERS_MAX} followers at once")),
    }
}

fn stream_of(
    followed: broadcast::Receiver<Arc<str>>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    stream::unfold((followed, permit), |(mut followed, permit)| async {
        let event = match followed.recv().await {
            Ok(line) => sse::Event::default().data(line),
            Err(RecvError::Lagged(missed)) => sse::Event::default().event("missed").data(missed.to_string()),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(event), (followed, permit)))
    })
}

async fn check_token(State(control): State<ControlApi>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Hashes are compared in constant time.
    let hash = |token: &str| blake3::hash(token.as_bytes());
    if shown.is_some_and(|shown| hash(shown) == hash(&control.token.0)) {
        return next.run(request).await;
    }
    let mut refusal = problem(StatusCode::UNAUTHORIZED, "want `Authorization: Bearer` with the worker's `http-token`");
    refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refusal
}

//! What a worker, or a supervisor of workers, is steered and followed by over HTTP. All of it needs `Authorization: Bearer TOKEN`.
//!
//! Bounds: [`FOLLOWERS_MAX`] followers of events; a follower that is too slow misses some, and is told how many.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use wasm_worker_core::secret::Secret;

use super::problem;
use crate::observers::EventLines;
use crate::worker::Order;

const FOLLOWERS_MAX: usize = 64;

/// Who has the token may pass.
pub(crate) struct Door {
    token: Secret,
    lines: Arc<EventLines>,
    orders: mpsc::Sender<Order>,
    /// Whether there will be no more jobs; whoever shows it is not to wait for the agents to hear of it.
    draining: Arc<AtomicBool>,
    followers: Arc<Semaphore>,
}

impl Door {
    pub(crate) fn new(
        token: Secret,
        lines: Arc<EventLines>,
        orders: mpsc::Sender<Order>,
        draining: Arc<AtomicBool>,
    ) -> Arc<Self> {
        Arc::new(Self { token, lines, orders, draining, followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)) })
    }

    pub(crate) fn lines(&self) -> &EventLines {
        &self.lines
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The pages that steer and follow, and these others behind the token.
    pub(crate) fn guard(self: &Arc<Self>, others: Router) -> Router {
        let own = Router::new().route("/drain", post(drain)).route("/events", get(events)).with_state(self.clone());
        own.merge(others).route_layer(middleware::from_fn_with_state(self.clone(), check_token))
    }
}

type Shown = State<Arc<Door>>;

async fn drain(State(door): Shown) -> Response {
    door.draining.store(true, Ordering::Relaxed);
    match door.orders.send(Order::Drain).await {
        Ok(()) => (StatusCode::ACCEPTED, Json(json!({ "state": "draining" }))).into_response(),
        Err(_) => problem(StatusCode::CONFLICT, "the worker has ended"),
    }
}

async fn events(State(door): Shown) -> Response {
    match door.followers.clone().try_acquire_owned() {
        Ok(permit) => Sse::new(lines(door.lines.follow(), permit)).keep_alive(KeepAlive::default()).into_response(),
        Err(_) => problem(StatusCode::TOO_MANY_REQUESTS, &format!("{FOLLOWERS_MAX} follow already")),
    }
}

fn lines(
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

async fn check_token(State(door): Shown, headers: HeaderMap, request: Request, next: Next) -> Response {
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Hashes are compared in constant time.
    let right = shown.is_some_and(|shown| blake3::hash(shown.as_bytes()) == blake3::hash(door.token.0.as_bytes()));
    if right {
        return next.run(request).await;
    }
    let mut refused = problem(StatusCode::UNAUTHORIZED, "want `Authorization: Bearer` with the worker's `http-token`");
    refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refused
}

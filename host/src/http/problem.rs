//! Answers that are errors.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use wasm_worker_core::api::Problem;

/// An answer with this status, and a body that gives the reason.
pub(super) fn problem(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(Problem { error: why.into() })).into_response()
}

/// The answer for a path that does not exist.
pub(super) async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "no such page; try `/worker`, `/ready`, `/metrics` or `/jobs`")
}

//! Authentication and authorisation of requests: LiveKit's access tokens and their grants.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::api_state::ApiState;
use crate::keys::Caller;
use crate::twirp::TwirpError;

/// The error for a missing token or a missing grant, as in LiveKit's server.
const DENIED: &str = "permissions denied";

/// A request is not allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The token is not valid.
    InvalidToken(String),
    /// The token is missing, or lacks a grant.
    MissingGrant,
}

impl Denied {
    /// The error in one line.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::InvalidToken(why) => why,
            Self::MissingGrant => DENIED,
        }
    }
}

impl From<Denied> for TwirpError {
    fn from(denied: Denied) -> Self {
        Self::denied(denied.text())
    }
}

/// Like LiveKit's server, the error of an invalid token is a text.
impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::InvalidToken(why) => (StatusCode::UNAUTHORIZED, why).into_response(),
            Self::MissingGrant => TwirpError::from(self).into_response(),
        }
    }
}

/// The caller of a request, by the token in its header, or else by the token in its query.
pub(crate) fn caller_of(state: &ApiState, headers: &HeaderMap, query: Option<&str>) -> Result<Caller, Denied> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let header = header.map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
    state.keys.verify(header.or(query).ok_or(Denied::MissingGrant)?).map_err(Denied::InvalidToken)
}

/// Allow a request that concerns one room, by the rule of LiveKit's server.
pub(crate) fn allow_room_admin(caller: &Caller, room: &str) -> Result<(), Denied> {
    allow(caller.grants.room_admin && caller.grants.room == room && !room.is_empty())
}

/// Allow a request that creates, deletes or cancels.
pub(crate) fn allow_create(caller: &Caller) -> Result<(), Denied> {
    allow(caller.grants.room_create)
}

/// Allow a request that reads.
pub(crate) fn allow_list(caller: &Caller) -> Result<(), Denied> {
    allow(caller.grants.room_list)
}

fn allow(granted: bool) -> Result<(), Denied> {
    if granted { Ok(()) } else { Err(Denied::MissingGrant) }
}

//! Authentication and authorisation of requests: LiveKit's access tokens and their grants.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::api_state::ApiState;
use crate::keys::{Caller, TokenError};
use crate::limits::is_name;
use crate::twirp::TwirpError;

/// The error for a missing token or a missing grant, as in LiveKit's server.
const DENIED: &str = "permissions denied";

/// The grant for requests that concern one room.
const ROOM_ADMIN: &str = "`roomAdmin` for this room";
/// The prefix of a header with a token. The case of its letters has no effect.
const BEARER: &str = "Bearer ";

/// A request is not allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The token is not valid.
    InvalidToken(TokenError),
    /// The request has no token.
    NoToken,
    /// The token lacks this grant.
    MissingGrant(&'static str),
}

impl Denied {
    /// The error in one line.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::InvalidToken(why) => why.to_string(),
            Self::NoToken => format!("{DENIED}: the request has no token"),
            Self::MissingGrant(grant) => format!("{DENIED}: the token has no grant {grant}"),
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
            Self::InvalidToken(why) => (StatusCode::UNAUTHORIZED, why.to_string()).into_response(),
            Self::NoToken | Self::MissingGrant(_) => TwirpError::from(self).into_response(),
        }
    }
}

/// The caller of a request, by the token in its header, or else by the token in its query.
pub(crate) fn caller_of(state: &ApiState, headers: &HeaderMap, query: Option<&str>) -> Result<Caller, Denied> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(token_in);
    state.keys.verify(header.or(query).ok_or(Denied::NoToken)?).map_err(Denied::InvalidToken)
}

fn token_in(header: &str) -> &str {
    match header.split_at_checked(BEARER.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(BEARER) => token.trim_start_matches(' '),
        _ => header,
    }
}

/// Allow a request that concerns one room, by the rule of LiveKit's server.
pub(crate) fn allow_room_admin(caller: &Caller, room: &str) -> Result<(), Denied> {
    allow(is_room_admin(caller, room), ROOM_ADMIN)
}

/// Whether the caller may administer this room.
pub(crate) fn is_room_admin(caller: &Caller, room: &str) -> bool {
    caller.grants.room_admin && caller.grants.room == room && !room.is_empty()
}

/// Allow a request that creates or deletes rooms.
pub(crate) fn allow_create(caller: &Caller) -> Result<(), Denied> {
    allow(caller.grants.room_create, "`roomCreate`")
}

/// Allow a request that lists.
pub(crate) fn allow_list(caller: &Caller) -> Result<(), Denied> {
    allow(caller.grants.room_list, "`roomList`")
}

/// Allow a participant to join the room of its token.
pub(crate) fn allow_join(caller: &Caller) -> Result<(), Denied> {
    allow(caller.grants.room_join && is_name(&caller.grants.room), "`roomJoin` for a room")?;
    allow(is_name(&caller.person.identity), "identity (`sub`) of a participant")
}

/// Allow the connection of a worker.
pub(crate) fn allow_agent(caller: &Caller) -> Result<(), Denied> {
    allow(caller.grants.agent, "`agent`")
}

fn allow(granted: bool, grant: &'static str) -> Result<(), Denied> {
    if granted { Ok(()) } else { Err(Denied::MissingGrant(grant)) }
}

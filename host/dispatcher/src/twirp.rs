//! The encodings and errors of LiveKit's services: Twirp, with protobuf or JSON bodies and with errors in JSON.

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::answers::{ANSWER_BYTES_MAX, AnswerTooLong, AnswersFull, to_json};
use crate::proto_json;

const PROTOBUF: &str = "application/protobuf";
const JSON: &str = "application/json";

/// The encoding of a call and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Protobuf,
    Json,
}

impl Content {
    /// The encoding that the headers name. Parameters after a semicolon and the case of letters have no effect.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, TwirpError> {
        let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match &*given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase() {
            PROTOBUF => Ok(Self::Protobuf),
            JSON => Ok(Self::Json),
            other => {
                Err(TwirpError::bad_route(format!("unexpected content type `{other}`, want `{PROTOBUF}` or `{JSON}`")))
            }
        }
    }

    /// The message in a body.
    pub(crate) fn read<T: Message + Default + DeserializeOwned>(self, body: &Bytes) -> Result<T, TwirpError> {
        let malformed = |why: String| TwirpError::new(Code::Malformed, format!("the request cannot be read: {why}"));
        match self {
            Self::Protobuf => T::decode(body.clone()).map_err(|error| malformed(error.to_string())),
            Self::Json => proto_json::read(body).map_err(|error| malformed(error.to_string())),
        }
    }

    /// The response with a message.
    pub(crate) fn write<T: Message + Serialize>(self, answer: &T) -> Result<Response, TwirpError> {
        match self {
            Self::Protobuf if answer.encoded_len() > ANSWER_BYTES_MAX => Err(AnswerTooLong.into()),
            Self::Protobuf => Ok(([(CONTENT_TYPE, PROTOBUF)], answer.encode_to_vec()).into_response()),
            Self::Json => Ok(([(CONTENT_TYPE, JSON)], to_json(answer)?).into_response()),
        }
    }
}

/// The error codes of Twirp that the dispatcher uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument,
    Malformed,
    DeadlineExceeded,
    NotFound,
    FailedPrecondition,
    BadRoute,
    Unauthenticated,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
    Internal,
}

impl Code {
    const fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::Malformed => "malformed",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotFound => "not_found",
            Self::FailedPrecondition => "failed_precondition",
            Self::BadRoute => "bad_route",
            Self::Unauthenticated => "unauthenticated",
            Self::ResourceExhausted => "resource_exhausted",
            Self::Unavailable => "unavailable",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status of the code.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::InvalidArgument | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::DeadlineExceeded => StatusCode::REQUEST_TIMEOUT,
            Self::NotFound | Self::BadRoute => StatusCode::NOT_FOUND,
            Self::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The error of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TwirpError {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// Seconds after which the client may try again.
    retry_after: Option<u32>,
}

impl TwirpError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// The error for an unknown path or content type.
    pub(crate) fn bad_route(message: impl Into<String>) -> Self {
        Self::new(Code::BadRoute, message)
    }

    /// The error for an argument that is not valid.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// The error for a request that is not allowed.
    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }

    /// The same error, with the seconds after which the client may try again.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl From<AnswerTooLong> for TwirpError {
    fn from(error: AnswerTooLong) -> Self {
        Self::new(Code::ResourceExhausted, error.to_string())
    }
}

impl From<AnswersFull> for TwirpError {
    fn from(error: AnswersFull) -> Self {
        Self::new(Code::ResourceExhausted, error.to_string()).retry_after(1)
    }
}

impl IntoResponse for TwirpError {
    fn into_response(self) -> Response {
        let mut body = json!({ "code": self.code.name(), "msg": self.message });
        if let (Some(seconds), Some(body)) = (self.retry_after, body.as_object_mut()) {
            body.insert("meta".into(), json!({ "retry_after_seconds": seconds.to_string() }));
        }
        let mut response = (self.code.status(), axum::Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

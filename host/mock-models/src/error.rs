//! Errors as the vendor's servers send them: a status and `{"error": {"message", "type", "param", "code"}}`. Pure.
//!
//! Names and codes: OpenAI's API reference, "Error codes", and answers of the API in public issues of its SDKs.

use std::time::Duration;

use serde_json::{Value, json};

/// The type of errors that are the client's.
const INVALID_REQUEST: &str = "invalid_request_error";

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The time after which the client may ask again.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: ErrorBody,
}

/// The body of an error.
#[derive(Clone, Debug, PartialEq)]
pub enum ErrorBody {
    /// The vendor's object.
    Object {
        /// What is wrong, for people.
        message: String,
        /// The kind of the error.
        kind: String,
        /// The field of the request that is wrong.
        param: Option<String>,
        /// The error, for programs.
        code: Option<String>,
    },
    /// Any other text, such as the HTML of a proxy.
    Text {
        /// The media type.
        content_type: String,
        /// The text.
        text: String,
    },
}

impl ApiError {
    /// A request that the client has to change: status 400.
    pub(crate) fn invalid(param: Option<&str>, code: Option<&str>, message: String) -> Self {
        Self::object(400, INVALID_REQUEST, param, code, message)
    }

    pub(crate) fn object(status: u16, kind: &str, param: Option<&str>, code: Option<&str>, message: String) -> Self {
        let (param, code) = (param.map(str::to_owned), code.map(str::to_owned));
        let body = ErrorBody::Object { message, kind: kind.to_owned(), param, code };
        Self { status, retry_after: None, body }
    }

    /// The error that the vendor's servers send with this status.
    pub(crate) fn of_status(status: u16) -> Self {
        let (kind, code, message) = match status {
            401 => (INVALID_REQUEST, Some("invalid_api_key"), "Incorrect API key provided."),
            403 => (
                INVALID_REQUEST,
                Some("unsupported_country_region_territory"),
                "Country, region, or territory not supported",
            ),
            404 => {
                (INVALID_REQUEST, Some("model_not_found"), "The model does not exist or you do not have access to it.")
            }
            408 => ("timeout", None, "Request timed out."),
            429 => ("requests", Some("rate_limit_exceeded"), "Rate limit reached. Please try again later."),
            500 => ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
            503 => ("server_error", None, "The server is currently overloaded. Please try again later."),
            400..500 => (INVALID_REQUEST, None, "The request is refused."),
            _ => ("server_error", None, "The server failed."),
        };
        Self::object(status, kind, None, code, message.to_owned())
    }

    pub(crate) fn no_such_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        Self::object(404, INVALID_REQUEST, None, Some("model_not_found"), message)
    }

    pub(crate) fn no_such_path(method: &str, path: &str) -> Self {
        Self::object(404, INVALID_REQUEST, None, None, format!("Invalid URL ({method} {path})"))
    }

    pub(crate) fn wrong_method(method: &str, path: &str) -> Self {
        let message = format!("Not allowed to {method} on {path}.");
        Self::object(405, INVALID_REQUEST, None, Some("method_not_supported"), message)
    }

    pub(crate) fn too_large(bytes_max: usize) -> Self {
        let message = format!("the request is larger than {bytes_max} bytes, the bound of this stand-in");
        Self::object(413, INVALID_REQUEST, None, Some("request_too_large"), message)
    }

    /// The media type and the text of the body.
    pub fn encoded(&self) -> (String, String) {
        match &self.body {
            ErrorBody::Object { message, kind, param, code } => {
                let error = json!({ "message": message, "type": kind, "param": param, "code": code });
                ("application/json".into(), json!({ "error": error }).to_string())
            }
            ErrorBody::Text { content_type, text } => (content_type.clone(), text.clone()),
        }
    }

    /// The headers that say when the client may ask again: in seconds, rounded up, and in milliseconds, as the vendor sends both.
    pub fn retry_headers(&self) -> Vec<(&'static str, String)> {
        let Some(after) = self.retry_after else { return Vec::new() };
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        vec![("retry-after", seconds.to_string()), ("retry-after-ms", after.as_millis().to_string())]
    }

    /// The code for a log: that of the body, or its status.
    pub(crate) fn code(&self) -> String {
        match &self.body {
            ErrorBody::Object { code: Some(code), .. } => code.clone(),
            ErrorBody::Object { kind, .. } => kind.clone(),
            ErrorBody::Text { .. } => self.status.to_string(),
        }
    }
}

/// The kind of a JSON value, as the vendor's messages name it.
pub(crate) const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_form_of_the_vendor() {
        let error = ApiError { retry_after: Some(Duration::from_millis(1_500)), ..ApiError::of_status(429) };
        let (content_type, body) = error.encoded();
        assert_eq!(content_type, "application/json");
        let wanted = json!({ "error": {
            "message": "Rate limit reached. Please try again later.",
            "type": "requests",
            "param": null,
            "code": "rate_limit_exceeded",
        } });
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), wanted);
        assert_eq!(error.retry_headers(), [("retry-after", "2".to_owned()), ("retry-after-ms", "1500".to_owned())]);
        assert_eq!(
            (ApiError::of_status(418).code(), ApiError::of_status(599).code()),
            ("invalid_request_error".into(), "server_error".into())
        );
    }
}

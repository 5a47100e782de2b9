//! Messages of JSON-RPC, and the answers of servers as JSON or as a stream of events. Pure.

use serde_json::{Value, json};

use super::McpError;
use crate::sse::Parser;
use crate::wire;

/// Number of bytes of an answer, or of one event of it.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Number of bytes of a whole stream.
const BODY_BYTES_MAX: usize = 32 << 20;
/// The code for a method that a side does not have.
pub(super) const METHOD_NOT_FOUND: i64 = -32601;

pub(super) fn request(id: u64, method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

pub(super) fn notification(method: &str) -> String {
    json!({ "jsonrpc": "2.0", "method": method }).to_string()
}

/// The answer to a request of the server: it may know that the client is there, and nothing else.
pub(super) fn answer_to_server(id: &Value, method: &str) -> String {
    if method == "ping" {
        return json!({ "jsonrpc": "2.0", "id": id, "result": {} }).to_string();
    }
    let error = json!({ "code": METHOD_NOT_FOUND, "message": "Method not found" });
    json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()
}

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// The result of the request.
    Result(Value),
    /// The error of the request.
    Error { code: i64, message: String, data: Value },
    /// A request of its own.
    Asked { id: Value, method: String },
}

/// The answer to one request, while it is being read.
#[derive(Debug)]
pub(super) struct Answer {
    id: u64,
    form: Form,
    read: usize,
}

#[derive(Debug)]
enum Form {
    /// Nothing yet, or spaces.
    Unknown,
    Whole(Vec<u8>),
    Events(Parser),
}

impl Answer {
    pub(super) fn new(id: u64) -> Self {
        Self { id, form: Form::Unknown, read: 0 }
    }

    /// Takes bytes, and returns what they complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Told>, McpError> {
        self.read += bytes.len();
        if self.read > BODY_BYTES_MAX {
            return Err(McpError::TooLarge(format!("a stream of more than {BODY_BYTES_MAX} bytes")));
        }
        if matches!(self.form, Form::Unknown) {
            self.form = match wire::Form::of(bytes) {
                None => return Ok(Vec::new()),
                Some(wire::Form::Whole) => Form::Whole(Vec::new()),
                Some(wire::Form::Events) => Form::Events(Parser::new(MESSAGE_BYTES_MAX)),
            };
        }
        let events = match &mut self.form {
            Form::Events(parser) => parser.feed(bytes).map_err(|error| McpError::TooLarge(error.to_string()))?,
            Form::Whole(body) if body.len() + bytes.len() > MESSAGE_BYTES_MAX => {
                return Err(McpError::TooLarge(format!("an answer of more than {MESSAGE_BYTES_MAX} bytes")));
            }
            Form::Whole(body) => {
                body.extend_from_slice(bytes);
                return Ok(Vec::new());
            }
            Form::Unknown => return Ok(Vec::new()),
        };
        let mut told = Vec::new();
        for event in events {
            told.extend(self.messages(&event.data)?);
        }
        Ok(told)
    }

    /// Ends the answer, and returns what was left.
    pub(super) fn finish(mut self) -> Result<Vec<Told>, McpError> {
        match std::mem::replace(&mut self.form, Form::Unknown) {
            Form::Unknown => Ok(Vec::new()),
            Form::Whole(body) => self.messages(&String::from_utf8_lossy(&body)),
            Form::Events(parser) => {
                let last = parser.finish().map_err(|error| McpError::TooLarge(error.to_string()))?;
                last.map_or(Ok(Vec::new()), |event| self.messages(&event.data))
            }
        }
    }

    /// What one message says, or several: the version 2025-03-26 allows a list.
    fn messages(&self, text: &str) -> Result<Vec<Told>, McpError> {
        // An event without data is there for its id.
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let value = serde_json::from_str(text);
        let value: Value = value.map_err(|_| McpError::Invalid(format!("it sent `{}`", wire::page(text))))?;
        Ok(match &value {
            Value::Array(values) => values.iter().filter_map(|value| self.told(value)).collect(),
            value => self.told(value).into_iter().collect(),
        })
    }

    /// What a message says to this request. Notifications and answers to others are nothing.
    fn told(&self, message: &Value) -> Option<Told> {
        let id = message.get("id").unwrap_or(&Value::Null);
        if let Some(method) = message.get("method").and_then(Value::as_str) {
            return (!id.is_null()).then(|| Told::Asked { id: id.clone(), method: method.to_owned() });
        }
        let is_ours = id.as_u64() == Some(self.id);
        if let Some(error) = message.get("error").filter(|error| error.is_object()) {
            // A server that could not read the request cannot tell its id.
            let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
            let text = error.get("message").and_then(Value::as_str).unwrap_or("no message");
            let data = error.get("data").cloned().unwrap_or_default();
            return (is_ours || id.is_null()).then(|| Told::Error { code, message: wire::clip(text), data });
        }
        message.get("result").filter(|_| is_ours).map(|result| Told::Result(result.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<Told>, McpError> {
        let mut whole = Answer::new(7);
        let mut told = whole.feed(body.as_bytes())?;
        told.extend(whole.finish()?);
        for at in 0..=body.len() {
            let (before, after) = body.as_bytes().split_at(at);
            let mut cut = Answer::new(7);
            let mut parts = cut.feed(before)?;
            parts.extend(cut.feed(after)?);
            parts.extend(cut.finish()?);
            assert_eq!(parts, told, "cut at {at}");
        }
        Ok(told)
    }

    const RESULT: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"x":1}}"#;

    #[test]
    fn answer_is_json_or_a_stream() {
        let result = [Told::Result(json!({ "x": 1 }))];
        assert_eq!(read(RESULT).unwrap(), result);
        assert_eq!(read(&format!("\n [{RESULT}]")).unwrap(), result);
        let noise = "id: 1\ndata: \n\n: ping\n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\ndata: {\"id\":8,\"result\":{}}\n\n";
        assert_eq!(read(&format!("{noise}data: {RESULT}\n\n")).unwrap(), result);
        assert_eq!(read(&format!("{noise}data: {RESULT}")).unwrap(), result);
        assert!(read(noise).unwrap().is_empty() && read("").unwrap().is_empty());
    }

    #[test]
    fn error_and_request_of_the_server_are_told() {
        let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Server not initialized"}}"#;
        let data = Value::Null;
        let wanted = Told::Error { code: -32000, message: "Server not initialized".into(), data };
        assert_eq!(read(error).unwrap(), [wanted]);
        assert!(read(r#"{"id":9,"error":{"code":1}}"#).unwrap().is_empty());
        let asked = Told::Asked { id: json!("a"), method: "ping".into() };
        assert_eq!(read("data: {\"id\":\"a\",\"method\":\"ping\"}\n\n").unwrap(), [asked]);
        assert_eq!(answer_to_server(&json!("a"), "ping"), r#"{"id":"a","jsonrpc":"2.0","result":{}}"#);
        assert!(answer_to_server(&json!(1), "sampling/createMessage").contains("-32601"));
    }

    #[test]
    fn what_is_no_message_is_an_error_or_nothing() {
        assert!(
            matches!(read("<html><title>Sign in</title>"), Err(McpError::Invalid(text)) if text.contains("Sign in"))
        );
        assert!(matches!(read("data: {\"id\"\n\n"), Err(McpError::Invalid(_))));
        for odd in ["[]", "[7,null]", "{}", "data: 7\n\n", r#"{"id":7}"#, r#"{"id":7,"error":7}"#] {
            assert!(read(odd).unwrap().is_empty(), "{odd}");
        }
    }

    #[test]
    fn answers_are_bounded() {
        for begin in ["{", "data: "] {
            let mut answer = Answer::new(7);
            answer.feed(begin.as_bytes()).unwrap();
            let part = vec![b' '; 1 << 20];
            let fed = (0..10).take_while(|_| answer.feed(&part).is_ok()).count();
            assert_eq!(fed, 3, "{begin}");
        }
        let mut answer = Answer::new(7);
        let comments = ": ping\n".repeat(150_000);
        assert!((0..100).any(|_| answer.feed(comments.as_bytes()).is_err()));
    }
}

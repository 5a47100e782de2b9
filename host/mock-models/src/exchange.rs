//! HTTP requests and their responses, without sockets. Pure.
//!
//! ```text
//! POST /v1/chat/completions   an answer by the script
//! POST /v1/responses          the same in the other protocol
//! GET  /v1/models             the models of the script
//! GET  /v1/models/{id}        one of them
//! GET  /                      a text that says what this is
//! ```
//!
//! Every response has [`HEADER`]. Log events have the numbers of requests, models and rules, and no contents of messages.

use serde_json::{Value, json};
use wasm_worker_core::text::clip;

use crate::answer::{Frames, HEADER, Head, JSON, banner, frames, model_name};
use crate::error::ApiError;
use crate::plan::{Plan, Reply};
use crate::request::{Delivery, Protocol, Request};
use crate::script::{Counts, MODEL, Script};

/// The name of an id in the answers of the vendor's servers.
const REQUEST_ID: &str = "x-request-id";

/// A response.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// The time of status and headers.
    pub head: HeadTime,
    /// The body.
    pub frames: Frames,
}

/// The time of status and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadTime {
    /// At once.
    AtOnce,
    /// With the first frame of the body.
    WithBody,
}

impl Response {
    /// The response that tells an error.
    pub fn error(error: &ApiError) -> Self {
        let (content_type, body) = error.encoded();
        let mut response = Self::new(error.status, content_type, Frames::once(body.into_bytes()));
        response.headers.extend(error.retry_headers());
        response
    }

    fn new(status: u16, content_type: String, frames: Frames) -> Self {
        let headers = vec![(HEADER, banner().to_owned()), ("content-type", content_type)];
        Self { status, headers, head: HeadTime::WithBody, frames }
    }

    fn json(value: &Value) -> Self {
        Self::new(200, JSON.to_owned(), Frames::once(value.to_string().into_bytes()))
    }
}

/// The response to a request; none where the script never answers. `created` is the time in seconds since 1970.
pub fn respond(
    script: &Script,
    counts: &mut Counts,
    method: &str,
    path: &str,
    body: &[u8],
    created: u64,
) -> Option<Response> {
    let number = counts.next_exchange();
    let routed = match (path, method) {
        ("/v1/chat/completions", "POST") => answer(script, counts, Protocol::Chat, body, created)?,
        ("/v1/responses", "POST") => answer(script, counts, Protocol::Responses, body, created)?,
        ("/v1/models", "GET" | "HEAD") => Ok(models(script)),
        ("/", "GET" | "HEAD") => Ok(this()),
        ("/v1/chat/completions" | "/v1/responses" | "/v1/models" | "/", _) => Err(ApiError::wrong_method(method, path)),
        _ => match (path.strip_prefix("/v1/models/"), method) {
            (Some(id), "GET" | "HEAD") => model(script, id),
            (Some(_), _) => Err(ApiError::wrong_method(method, &clip(path))),
            (None, _) => Err(ApiError::no_such_path(method, &clip(path))),
        },
    };
    let mut response = routed.unwrap_or_else(|error| Response::error(&error));
    response.headers.push((REQUEST_ID, format!("req_{MODEL}-{number}")));
    Some(response)
}

/// The answer to a question; none where the script never answers.
fn answer(
    script: &Script,
    counts: &mut Counts,
    protocol: Protocol,
    body: &[u8],
    created: u64,
) -> Option<Result<Response, ApiError>> {
    let request = match Request::parse(protocol, body) {
        Ok(request) => request,
        Err(error) => {
            tracing::info!(target: "mock-models", code = error.code(), "a request is refused");
            return Some(Err(error));
        }
    };
    let plan = script.plan(counts, &request);
    log(&request, &plan, counts.requests());
    match plan.reply {
        Reply::Silence => None,
        Reply::Refusal(error) => Some(Err(error)),
        Reply::Answer(answer) => {
            let head = Head::new(&request, counts.requests(), created);
            let mut response = Response::new(200, head.content_type().to_owned(), frames(answer, head));
            response.headers.push(("cache-control", "no-cache".to_owned()));
            if request.delivery != Delivery::Whole {
                response.head = HeadTime::AtOnce;
            }
            Some(Ok(response))
        }
    }
}

fn log(request: &Request, plan: &Plan, number: u64) {
    let (model, tools, line) = (clip(&request.model), request.tools.len(), plan.line);
    let (protocol, delivery) = (request.protocol, request.delivery);
    let reply = match &plan.reply {
        Reply::Silence => "silence".into(),
        Reply::Refusal(error) => error.code(),
        Reply::Answer(answer) => format!("{:?}", answer.finish),
    };
    tracing::info!(target: "mock-models", number, ?protocol, ?delivery, model, tools, line, reply, "a request");
}

fn models(script: &Script) -> Response {
    let data: Vec<Value> = script.models().into_iter().map(model_json).collect();
    Response::json(&json!({ "object": "list", "data": data }))
}

fn model(script: &Script, id: &str) -> Result<Response, ApiError> {
    let known = script.models().into_iter().find(|known| *known == id);
    known.map(|id| Response::json(&model_json(id))).ok_or_else(|| ApiError::no_such_model(&clip(id)))
}

/// The id is the name by which clients ask for the model. The owner says that it is a stand-in.
fn model_json(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 0, "owned_by": model_name(MODEL) })
}

fn this() -> Response {
    let text = format!(
        "{}\n\nThis is a stand-in for a model server. A script says its answers.\nPOST /v1/chat/completions\n",
        banner()
    );
    Response::new(200, "text/plain; charset=utf-8".to_owned(), Frames::once(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::answer::Act;

    fn ask(script: &Script, counts: &mut Counts, method: &str, path: &str, body: &Value) -> Option<Response> {
        respond(script, counts, method, path, body.to_string().as_bytes(), 1_700_000_000)
    }

    #[test]
    fn a_script_answers_under_virtual_time() {
        let script =
            Script::parse("f", "rules: [{answer: {text: one two, first-token: 1h, tokens-per-second: 1}}]").unwrap();
        let body =
            |stream: bool| json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": "x" }] });
        let mut all = Vec::new();
        for _ in 0..2 {
            let mut counts = Counts::default();
            let whole = ask(&script, &mut counts, "POST", "/v1/chat/completions", &body(false)).unwrap();
            let streamed = ask(&script, &mut counts, "POST", "/v1/chat/completions", &body(true)).unwrap();
            assert_eq!((whole.head, streamed.head), (HeadTime::WithBody, HeadTime::AtOnce));
            assert_eq!(streamed.headers.last().unwrap(), &(REQUEST_ID, "req_stand-in-2".to_owned()));
            all.push([whole.frames.collect::<Vec<_>>(), streamed.frames.collect()]);
        }
        assert_eq!(all[0], all[1], "the same requests have the same answers");
        let times: Vec<u64> = all[0][1].iter().map(|frame| frame.at.as_secs()).collect();
        assert_eq!(times, [3_600, 3_600, 3_601, 3_601]);
    }

    #[test]
    fn every_response_says_that_it_is_of_a_stand_in() {
        let script = Script::parse(
            "f",
            "models: [m]\nrules: [{when: {user: x}, refuse: 500}, {when: {user: y}, answer: y}, {faults: hang}]",
        )
        .unwrap();
        let chat =
            |user: &str, model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": user }] });
        let mut counts = Counts::default();
        let mut status = |method: &str, path: &str, body: &Value| {
            let response = ask(&script, &mut counts, method, path, body)?;
            assert!(response.headers.iter().any(|(name, value)| *name == HEADER && value.contains("mock-models")));
            let frames: Vec<_> = response.frames.collect();
            assert!(matches!(&frames[..], [frame] if frame.at == Duration::ZERO && matches!(&frame.act, Act::Send(_))));
            Some(response.status)
        };
        let path = "/v1/chat/completions";
        assert_eq!(status("POST", path, &chat("x", "m")), Some(500));
        assert_eq!(status("POST", path, &chat("y", "m")), Some(200));
        assert_eq!(status("POST", path, &chat("y", "other")), Some(404));
        assert_eq!(status("POST", path, &json!({})), Some(400));
        assert_eq!(status("POST", path, &chat("z", "m")), None);
        assert_eq!(status("GET", path, &json!({})), Some(405));
        assert_eq!(status("GET", "/v1/models", &json!({})), Some(200));
        assert_eq!(status("DELETE", "/v1/models/m", &json!({})), Some(405));
        assert_eq!(status("GET", "/", &json!({})), Some(200));
        assert_eq!(status("GET", "/v2", &json!({})), Some(404));
    }
}

//! What callers send to the dispatcher: requests of HTTP, as bytes on a connection.

use std::time::Duration;

use serde_json::Value;

use crate::parts::{filled, parts};
use crate::served::{self, SECRET, Served};

/// Most requests of an input.
const REQUESTS_MAX: usize = 8;
/// A dispatcher that is silent for so long waits for the rest of a request, or for a change.
const SILENCE: Duration = Duration::from_millis(25);
/// Longest answer, with its head, in bytes.
const ANSWER_BYTES_MAX: usize = (16 << 20) + (64 << 10);
const LINE_END: &str = "\r\n";
const HEAD_END: &str = "\r\n\r\n";

/// Each part is a request. `{C}` is the token of a caller, `{W}` that of a worker, `{D}` the id of the newest dispatch. A head
/// without the length of its body gets it.
pub fn run(bytes: &[u8]) {
    play(bytes);
}

/// The same, and the status of each answer.
pub fn play(bytes: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    served::with_dispatcher(|dispatcher| {
        let mut newest = String::from("AD_none");
        for part in parts(bytes).take(REQUESTS_MAX) {
            let answer = ask(dispatcher, &request(dispatcher, part, &newest));
            let Some((status, answer)) = check(&answer) else { continue };
            statuses.push(status);
            newest = answer["id"].as_str().or(answer["dispatch"].as_str()).map_or(newest, str::to_owned);
        }
    });
    statuses
}

/// The bytes of a request. Line feeds end the lines of its head, which are easier to change than two bytes.
fn request(dispatcher: &Served, part: &[u8], newest: &str) -> Vec<u8> {
    let (head, body) = match part.windows(2).position(|window| window == b"\n\n") {
        Some(at) => (&part[..at], &part[at + 2..]),
        None => (part, &[][..]),
    };
    let texts = [("{C}", &*dispatcher.caller_token), ("{W}", &*dispatcher.worker_token), ("{D}", newest)];
    let mut request = filled(head, &[texts.as_slice(), &[("\n", LINE_END)]].concat());
    let body = filled(body, &texts);
    let lower = head.to_ascii_lowercase();
    let names = |name: &str| lower.windows(name.len()).any(|window| window == name.as_bytes());
    if !names("content-length") && !names("transfer-encoding") {
        request.extend_from_slice(format!("{LINE_END}Content-Length: {}", body.len()).as_bytes());
    }
    if !names("connection") {
        request.extend_from_slice(format!("{LINE_END}Connection: close").as_bytes());
    }
    [&request, HEAD_END.as_bytes(), &body].concat()
}

fn ask(dispatcher: &Served, request: &[u8]) -> Vec<u8> {
    let (mut stream, mut answer) = (dispatcher.connect(), Vec::new());
    served::write(&mut stream, request);
    if served::read(&mut stream, &mut answer, SILENCE, |_| false) {
        served::finish(&mut stream, &mut answer);
    }
    answer
}

/// Check an answer. `None` when there is none: the request is not complete, or waits. `null` when it has no JSON.
fn check(answer: &[u8]) -> Option<(u16, Value)> {
    assert!(answer.len() <= ANSWER_BYTES_MAX, "an answer has {} bytes", answer.len());
    let text = String::from_utf8_lossy(answer);
    assert!(!text.contains(SECRET), "an answer shows the secret");
    let (head, body) = text.split_once(HEAD_END)?;
    let status = head.strip_prefix("HTTP/1.1 ").or(head.strip_prefix("HTTP/1.0 "));
    let status: u16 = status.and_then(|status| status.get(..3)?.parse().ok()).expect("no status");
    assert_ne!(status, 500, "{text}");
    let lower = head.to_ascii_lowercase();
    let length: Option<usize> = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    // A request of `HEAD` gets no body, and perhaps another answer behind it. One whose caller has gone gets half a body.
    let whole = length.is_some_and(|length| (1..=body.len()).contains(&length)) && !body.starts_with("HTTP/1.1 ");
    if !whole || !lower.contains("content-type: application/json") {
        return Some((status, Value::Null));
    }
    // Several requests on one connection have several answers.
    let answer = serde_json::Deserializer::from_str(body).into_iter::<Value>().next()?.expect("JSON that is none");
    let explained = ["msg", "error"].iter().any(|field| answer[field].is_string());
    assert!(status < 400 || explained, "an error without a text: {text}");
    Some((status, answer))
}

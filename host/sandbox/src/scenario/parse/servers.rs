//! What answers the agent: participants, web servers, WebSockets.

use std::time::Duration;

use wasm_worker_mock_models::fields::{Fields, text};
use wasm_worker_mock_models::matching::TextMatch;
use wasm_worker_mock_models::tree::{Fault, Node};

use super::super::matching::RequestMatch;
use super::super::script::{Action, AnswerRule, HttpOutcome, HttpRule, SocketReply, SocketRule};

/// The code of an application's error, as LiveKit numbers it.
const APPLICATION_ERROR: u32 = 1_500;
/// The code of a WebSocket's normal end.
const NORMAL_CLOSURE: u16 = 1_000;

pub(super) fn answer(node: &Node) -> Result<AnswerRule, Fault> {
    let mut fields = Fields::new(node, "`answer`")?;
    let (from, method) = (fields.text("from")?, fields.text("method")?);
    let payload = fields.text("payload")?;
    let error = fields.take("error").map(error).transpose()?;
    let answer = match (payload, error) {
        (Some(_), Some(_)) => return Err((fields.line, "an answer has a payload or an error".into())),
        (None, Some(error)) => Err(error),
        (payload, None) => Ok(payload.unwrap_or_default()),
    };
    let after = fields.duration("after")?.unwrap_or_default();
    let times = fields.whole("times")?;
    fields.end()?;
    Ok(AnswerRule { from, method, answer, after, times })
}

fn error(node: &Node) -> Result<(u32, String), Fault> {
    if let Some(message) = node.value.text() {
        return Ok((APPLICATION_ERROR, message.to_owned()));
    }
    let mut fields = Fields::new(node, "`error`")?;
    let error = (fields.whole("code")?.unwrap_or(APPLICATION_ERROR), fields.text_or_empty("message")?);
    fields.end()?;
    Ok(error)
}

pub(super) fn http(node: &Node) -> Result<HttpRule, Fault> {
    let mut fields = Fields::new(node, "`http`")?;
    let request = RequestMatch::new(&fields.need_text("match")?);
    let status: u16 = fields.whole("status")?.unwrap_or(200);
    if !(100..=599).contains(&status) {
        return Err((fields.line, format!("want a status from 100 to 599, got {status}")));
    }
    let headers = fields.texts_by_name("headers")?.into_iter().collect();
    let body = fields.text("body")?;
    let parts = texts(fields.items("parts"))?;
    if body.is_some() && !parts.is_empty() {
        return Err((fields.line, "an answer has a `body` or `parts`".into()));
    }
    let every = fields.duration("every")?.unwrap_or_default();
    let (after, times) = (fields.duration("after")?.unwrap_or_default(), fields.whole("times")?);
    let outcome = match fields.text("fail")? {
        Some(code) => HttpOutcome::Fail(code),
        None => HttpOutcome::Answer { status, headers, parts: body.into_iter().chain(parts).collect(), every },
    };
    fields.end()?;
    Ok(HttpRule { request, outcome, after, times })
}

pub(super) fn socket(node: &Node) -> Result<SocketRule, Fault> {
    let mut fields = Fields::new(node, "`socket`")?;
    let rule = SocketRule {
        url: RequestMatch::new(&fields.need_text("match")?),
        refuse: fields.whole("refuse")?,
        protocol: fields.text_or_empty("protocol")?,
        after: fields.duration("after")?.unwrap_or_default(),
        send: texts(fields.items("send"))?,
        replies: fields.items("replies").iter().map(reply).collect::<Result<_, _>>()?,
    };
    fields.end()?;
    Ok(rule)
}

fn reply(node: &Node) -> Result<SocketReply, Fault> {
    let mut fields = Fields::new(node, "a reply")?;
    let when = fields.take("when").map(TextMatch::read).transpose()?.unwrap_or_default();
    let send = texts(fields.items("send"))?;
    let after = fields.duration("after")?.unwrap_or(Duration::ZERO);
    fields.end()?;
    Ok(SocketReply { when, send, after })
}

pub(super) fn socket_send(node: &Node) -> Result<Action, Fault> {
    let mut fields = Fields::new(node, "`socket-send`")?;
    let url = RequestMatch::new(&fields.need_text("match")?);
    let text = fields.need_text("text")?;
    fields.end()?;
    Ok(Action::SocketSend { url, text })
}

pub(super) fn socket_close(node: &Node) -> Result<Action, Fault> {
    let mut fields = Fields::new(node, "`socket-close`")?;
    let url = RequestMatch::new(&fields.need_text("match")?);
    let code = fields.whole("code")?.unwrap_or(NORMAL_CLOSURE);
    let reason = fields.text_or_empty("reason")?;
    fields.end()?;
    Ok(Action::SocketClose { url, code, reason })
}

fn texts(items: &[Node]) -> Result<Vec<String>, Fault> {
    items.iter().map(|item| text(item).map(str::to_owned)).collect()
}

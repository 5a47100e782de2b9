//! `answer:` and `refuse:` of a rule.

use super::take_pace;
use crate::error::{ApiError, ErrorBody};
use crate::fields::{Fields, items, number, text, unknown};
use crate::plan::{Finish, Pace, Usage};
use crate::script::{Arguments, Call, Scripted, Text};
use crate::tree::{Fault, Node};

/// Most calls of an answer.
const CALLS_MAX: usize = 128;
/// The text of a rule without one.
const TEXT: &str = "I am a stand-in for a model, and you said: {user}";
const FINISHES: [(&str, Finish); 4] = [
    ("stop", Finish::Stop),
    ("length", Finish::Length),
    ("tool_calls", Finish::ToolCalls),
    ("content_filter", Finish::ContentFilter),
];

pub(super) fn read(node: &Node, pace: Pace) -> Result<Scripted, Fault> {
    if let Some(text) = node.value.text() {
        return Ok(Scripted { text: Text::Fixed(text.to_owned()), ..without_text(pace) });
    }
    let mut fields = Fields::new(node, "an answer")?;
    let (text, calls) = (fields.text("text")?, fields.take("calls").map(items).unwrap_or_default());
    let pace = take_pace(&mut fields, pace)?;
    let usage = fields.take("usage").map(usage).transpose()?;
    let finish = fields.take("finish").map(finish).transpose()?;
    fields.end()?;
    if text.is_none() && calls.is_empty() {
        return Err((node.line, "an answer needs `text:` or `calls:`".into()));
    }
    if calls.len() > CALLS_MAX {
        return Err((node.line, format!("{} calls, at most {CALLS_MAX} are allowed", calls.len())));
    }
    let calls = calls.iter().map(call).collect::<Result<_, _>>()?;
    Ok(Scripted { text: Text::Fixed(text.unwrap_or_default()), calls, pace, usage, finish })
}

/// The answer of a rule that has faults alone.
pub(super) fn without_text(pace: Pace) -> Scripted {
    Scripted { text: Text::Adapted(TEXT.into()), calls: Vec::new(), pace, usage: None, finish: None }
}

fn call(node: &Node) -> Result<Call, Fault> {
    let mut fields = Fields::new(node, "a call")?;
    let (id, name) = (fields.text("id")?, text(fields.need("name")?)?.to_owned());
    let arguments = match fields.take("arguments") {
        None => Arguments::Text("{}".into()),
        Some(node) => match node.value.text() {
            Some(text) => Arguments::Text(text.to_owned()),
            None => Arguments::Json(node.value.json()),
        },
    };
    fields.end()?;
    Ok(Call { id, name, arguments })
}

fn usage(node: &Node) -> Result<Usage, Fault> {
    // Sums of these fit 64 bits.
    const TOKENS_MAX: u64 = u32::MAX as u64;
    let mut fields = Fields::new(node, "`usage`")?;
    let usage = Usage {
        prompt: number(fields.need("prompt")?, 0..=TOKENS_MAX)?,
        completion: number(fields.need("completion")?, 0..=TOKENS_MAX)?,
        cached: fields.number("cached", 0..=TOKENS_MAX)?.unwrap_or(0),
    };
    fields.end()?;
    Ok(usage)
}

fn finish(node: &Node) -> Result<Finish, Fault> {
    let text = text(node)?;
    let known = FINISHES.iter().find(|(name, _)| *name == text).map(|(_, finish)| *finish);
    known.ok_or_else(|| (node.line, unknown(text, "`finish`", &FINISHES.map(|(name, _)| name))))
}

pub(super) fn refusal(node: &Node) -> Result<ApiError, Fault> {
    if node.value.text().is_some() {
        return Ok(ApiError::of_status(number(node, 400..=599)?));
    }
    let mut fields = Fields::new(node, "`refuse`")?;
    let mut error = ApiError::of_status(number(fields.need("status")?, 400..=599)?);
    error.retry_after = fields.duration("retry-after")?;
    let (body, content_type) = (fields.text("body")?, fields.take("content-type").map(media_type).transpose()?);
    let changes = ["message", "type", "param", "code"].map(|key| fields.text(key));
    let [new_message, new_kind, new_param, new_code] = changes;
    let (new_message, new_kind, new_param, new_code) = (new_message?, new_kind?, new_param?, new_code?);
    fields.end()?;
    let changes_object = [&new_message, &new_kind, &new_param, &new_code].iter().any(|change| change.is_some());
    match (body, &mut error.body) {
        (Some(_), _) if changes_object => return Err((node.line, "a refusal has `body:` or a message".into())),
        (Some(text), body) => {
            *body = ErrorBody::Text { content_type: content_type.unwrap_or_else(|| "text/html".into()), text };
        }
        (None, _) if content_type.is_some() => return Err((node.line, "`content-type:` needs `body:`".into())),
        (None, ErrorBody::Object { message, kind, param, code }) => {
            *message = new_message.unwrap_or(std::mem::take(message));
            *kind = new_kind.unwrap_or(std::mem::take(kind));
            *param = new_param;
            *code = new_code.or(code.take());
        }
        (None, ErrorBody::Text { .. }) => {}
    }
    Ok(error)
}

/// A value that a header can have.
fn media_type(node: &Node) -> Result<String, Fault> {
    let text = text(node)?;
    let is_header = !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if is_header {
        Ok(text.to_owned())
    } else {
        Err((node.line, format!("want a media type such as text/html, got `{text}`")))
    }
}

//! What a scenario expects.

use std::collections::BTreeMap;
use std::time::Duration;

use regex_lite::RegexBuilder;
use wasm_worker_core::verdict::Code;

use super::super::fields::{Fields, number, text};
use super::super::matching::{Range, RequestMatch, TextMatch, amount};
use super::super::script::{Expect, Want, WantedAnswer, WantedCall, WantedEnd, WantedRequest, WantedText};
use super::super::tree::{Fault, Node, Value};
use super::bytes;
use crate::guest::calls::Call;

/// Virtual time for an expectation that names none.
const WITHIN: Duration = Duration::from_secs(10);
/// The same for one that waits for the end of the job.
const END_WITHIN: Duration = Duration::from_secs(60 * 60);
/// Most bytes of a compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// The states of an agent.
const STATES: [&str; 5] = ["initializing", "idle", "listening", "thinking", "speaking"];

/// Read an `expect`.
pub(super) fn read(node: &Node) -> Result<Expect, Fault> {
    let mut fields = Fields::of(node, "`expect`")?;
    let mut wants = Vec::new();
    for (key, none) in [("text", false), ("texts", false), ("no-text", true)] {
        for node in fields.items(key) {
            let wanted = wanted_text(node)?;
            wants.push(if none { Want::NoText(wanted) } else { Want::Text(wanted) });
        }
    }
    for (key, states) in [("state", fields.items("state")), ("states", fields.items("states"))] {
        wants.extend(states.iter().map(|node| state(node, key)).collect::<Result<Vec<_>, _>>()?);
    }
    if let Some(node) = fields.take("attributes") {
        wants.extend(attributes(node)?);
    }
    for node in fields.items("call") {
        wants.push(Want::Call(wanted_call(node)?));
    }
    for node in fields.items("http") {
        wants.push(Want::Http(wanted_request(node)?));
    }
    for node in fields.items("answer") {
        wants.push(Want::Answer(wanted_answer(node)?));
    }
    if let Some(node) = fields.take("fuel") {
        wants.push(Want::Fuel(range(node, "`fuel`", fuel)?));
    }
    if let Some(node) = fields.take("memory") {
        wants.push(Want::Memory(range(node, "`memory`", bytes)?));
    }
    if let Some(node) = fields.take("end") {
        wants.push(Want::End(wanted_end(node)?));
    }
    let default = if wants.iter().any(Want::is_of_end) { END_WITHIN } else { WITHIN };
    let within = fields.duration("within")?.unwrap_or(default);
    let line = fields.line;
    fields.end()?;
    if wants.is_empty() {
        return Err((line, "`expect` wants something: text, texts, no-text, state, attributes, call, http, answer, fuel, memory or end".into()));
    }
    Ok(Expect { wants, within })
}

/// A text that is wanted: the text itself, or a mapping.
pub(super) fn text_match(node: &Node) -> Result<TextMatch, Fault> {
    if let Value::Text(text) = &node.value {
        return Ok(TextMatch { equals: Some(text.clone()), ..TextMatch::default() });
    }
    let mut fields = Fields::of(node, "a text")?;
    let matched = match_of(&mut fields)?;
    fields.end()?;
    Ok(matched)
}

/// The keys that say which text is wanted.
fn match_of(fields: &mut Fields<'_>) -> Result<TextMatch, Fault> {
    let equals = fields.text("equals")?;
    let contains =
        fields.items("contains").iter().map(|item| text(item).map(str::to_owned)).collect::<Result<_, _>>()?;
    let pattern = fields.take("pattern").map(pattern).transpose()?;
    Ok(TextMatch { equals, contains, pattern })
}

fn pattern(node: &Node) -> Result<regex_lite::Regex, Fault> {
    let text = text(node)?;
    let compiled = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    compiled.map_err(|error| (node.line, format!("`{text}` is no regular expression: {error}")))
}

fn wanted_text(node: &Node) -> Result<WantedText, Fault> {
    if let Value::Text(_) = &node.value {
        let text = text_match(node)?;
        return Ok(WantedText { text, topic: None, to: None, attributes: BTreeMap::new() });
    }
    let mut fields = Fields::of(node, "a text")?;
    let wanted = WantedText {
        text: match_of(&mut fields)?,
        topic: fields.text("topic")?,
        to: fields.text("to")?,
        attributes: fields.texts_by_name("attributes")?,
    };
    fields.end()?;
    Ok(wanted)
}

fn state(node: &Node, key: &str) -> Result<Want, Fault> {
    let name = text(node)?;
    if !STATES.contains(&name) {
        return Err((node.line, format!("`{name}` is no state for `{key}`; known are {}", STATES.join(", "))));
    }
    Ok(Want::State(name.to_owned()))
}

fn attributes(node: &Node) -> Result<Vec<Want>, Fault> {
    let Value::Map(pairs) = &node.value else {
        return Err((node.line, format!("want names and values of attributes, got {}", node.value.kind())));
    };
    let want = |(name, _, value): &(String, usize, Node)| {
        let value = if value.value == Value::Null { None } else { Some(text_match(value)?) };
        Ok(Want::Attribute { name: name.clone(), value })
    };
    pairs.iter().map(want).collect()
}

fn wanted_call(node: &Node) -> Result<WantedCall, Fault> {
    if let Value::Text(name) = &node.value {
        return Ok(WantedCall { name: call_name(name, node.line)?, json: TextMatch::default(), times: None });
    }
    let mut fields = Fields::of(node, "`call`")?;
    let wanted = WantedCall {
        name: call_name(&fields.need_text("name")?, node.line)?,
        json: match_of(&mut fields)?,
        times: fields.take("times").map(|node| range(node, "`times`", number)).transpose()?,
    };
    fields.end()?;
    Ok(wanted)
}

fn call_name(name: &str, line: usize) -> Result<String, Fault> {
    Call::check_name(name).map_err(|error| (line, error))?;
    Ok(name.to_owned())
}

fn wanted_request(node: &Node) -> Result<WantedRequest, Fault> {
    if let Value::Text(request) = &node.value {
        return Ok(WantedRequest { request: RequestMatch::new(request), body: TextMatch::default() });
    }
    let mut fields = Fields::of(node, "`http`")?;
    let request = RequestMatch::new(&fields.need_text("match")?);
    let body = fields.take("body").map(text_match).transpose()?.unwrap_or_default();
    fields.end()?;
    Ok(WantedRequest { request, body })
}

fn wanted_answer(node: &Node) -> Result<WantedAnswer, Fault> {
    if let Value::Text(_) = &node.value {
        return Ok(WantedAnswer { method: None, answer: Ok(text_match(node)?) });
    }
    let mut fields = Fields::of(node, "`answer`")?;
    let method = fields.text("method")?;
    let payload = fields.take("payload").map(text_match).transpose()?;
    let error = fields.take_nullable("error");
    let answer = match (payload, error) {
        (Some(_), Some(_)) => return Err((fields.line, "an answer has a payload or an error".into())),
        (payload, None) => Ok(payload.unwrap_or_default()),
        (None, Some(Node { value: Value::Null, .. })) => Err(None),
        (None, Some(code)) => Err(Some(number(code)?)),
    };
    fields.end()?;
    Ok(WantedAnswer { method, answer })
}

/// `7`, or a mapping with `min` and `max`.
fn range(node: &Node, what: &'static str, read: fn(&Node) -> Result<u64, Fault>) -> Result<Range, Fault> {
    if let Value::Text(_) = &node.value {
        let exactly = read(node)?;
        return Ok(Range { min: Some(exactly), max: Some(exactly) });
    }
    let mut fields = Fields::of(node, what)?;
    let (min, max) = (fields.take("min").map(read).transpose()?, fields.take("max").map(read).transpose()?);
    let line = fields.line;
    fields.end()?;
    match (min, max) {
        (None, None) => Err((line, format!("{what} needs `min:` or `max:`"))),
        (Some(min), Some(max)) if min > max => Err((line, format!("{what} has `min: {min}` above `max: {max}`"))),
        _ => Ok(Range { min, max }),
    }
}

fn fuel(node: &Node) -> Result<u64, Fault> {
    let text = text(node)?;
    amount(text).ok_or_else(|| (node.line, format!("want an amount of fuel such as 500k, 10M or 2G, got `{text}`")))
}

fn wanted_end(node: &Node) -> Result<WantedEnd, Fault> {
    let (codes, detail) = match &node.value {
        Value::Map(_) => {
            let mut fields = Fields::of(node, "`end`")?;
            let codes = fields.items("code").iter().map(code).collect::<Result<Vec<_>, _>>()?;
            let detail = fields.take("detail").map(text_match).transpose()?.unwrap_or_default();
            fields.end()?;
            (codes, detail)
        }
        Value::List(items) => (items.iter().map(code).collect::<Result<Vec<_>, _>>()?, TextMatch::default()),
        _ => (vec![code(node)?], TextMatch::default()),
    };
    if codes.is_empty() && detail.is_any() {
        return Err((node.line, "`end` needs a code, such as `completed`, or a `detail:`".into()));
    }
    Ok(WantedEnd { codes, detail })
}

fn code(node: &Node) -> Result<String, Fault> {
    let name = text(node)?;
    match Code::named(name) {
        Some(code) => Ok(code.as_str().to_owned()),
        None => {
            let known = Code::ALL.map(Code::as_str).join(", ");
            Err((node.line, format!("`{name}` is no end code; known are {known}")))
        }
    }
}

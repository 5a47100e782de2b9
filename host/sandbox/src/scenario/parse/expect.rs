//! What a scenario expects.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use wasm_worker_core::verdict::Code;
use wasm_worker_mock_models::fields::{Fields, number, text, whole};
use wasm_worker_mock_models::matching::TextMatch;
use wasm_worker_mock_models::tree::{Fault, Node, Value};

use super::super::matching::{Range, RequestMatch};
use super::super::script::{
    Expect, Want, WantedAnswer, WantedCall, WantedEnd, WantedQuestion, WantedRequest, WantedSound, WantedText,
};
use super::{bytes, fuel};
use crate::guest::calls::Call;

/// Virtual time for an expectation that names none.
const WITHIN: Duration = Duration::from_secs(10);
/// The same for one that waits for the end of the job.
const END_WITHIN: Duration = Duration::from_secs(60 * 60);
/// The least time of sound for an expectation that names none.
const SOUND_LEAST: Duration = Duration::from_millis(200);
/// The frequencies that people hear.
const HERTZ: RangeInclusive<u16> = 20..=20_000;
/// The states of an agent.
const STATES: [&str; 5] = ["initializing", "idle", "listening", "thinking", "speaking"];

/// Read an `expect`.
pub(super) fn read(node: &Node) -> Result<Expect, Fault> {
    let mut fields = Fields::new(node, "`expect`")?;
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
    for node in fields.items("sound") {
        wants.push(Want::Sound(wanted_sound(node)?));
    }
    for node in fields.items("model") {
        wants.push(Want::Model(wanted_question(node)?));
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
        return Err((line, "`expect` wants something: text, texts, no-text, state, attributes, call, http, sound, model, answer, fuel, memory or end".into()));
    }
    Ok(Expect { wants, within })
}

fn wanted_text(node: &Node) -> Result<WantedText, Fault> {
    if node.value.text().is_some() {
        let text = TextMatch::read(node)?;
        return Ok(WantedText { text, topic: None, to: None, attributes: BTreeMap::new() });
    }
    let mut fields = Fields::new(node, "a text")?;
    let wanted = WantedText {
        text: TextMatch::take(&mut fields)?,
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
        let value = if value.value == Value::Null { None } else { Some(TextMatch::read(value)?) };
        Ok(Want::Attribute { name: name.clone(), value })
    };
    pairs.iter().map(want).collect()
}

fn wanted_call(node: &Node) -> Result<WantedCall, Fault> {
    if let Some(name) = node.value.text() {
        return Ok(WantedCall { name: call_name(name, node.line)?, json: TextMatch::default(), times: None });
    }
    let mut fields = Fields::new(node, "`call`")?;
    let wanted = WantedCall {
        name: call_name(&fields.need_text("name")?, node.line)?,
        json: TextMatch::take(&mut fields)?,
        times: fields.take("times").map(|node| range(node, "`times`", whole)).transpose()?,
    };
    fields.end()?;
    Ok(wanted)
}

fn call_name(name: &str, line: usize) -> Result<String, Fault> {
    Call::check_name(name).map_err(|error| (line, error))?;
    Ok(name.to_owned())
}

fn wanted_request(node: &Node) -> Result<WantedRequest, Fault> {
    if let Some(request) = node.value.text() {
        return Ok(WantedRequest { request: RequestMatch::new(request), body: TextMatch::default() });
    }
    let mut fields = Fields::new(node, "`http`")?;
    let request = RequestMatch::new(&fields.need_text("match")?);
    let body = fields.take("body").map(TextMatch::read).transpose()?.unwrap_or_default();
    fields.end()?;
    Ok(WantedRequest { request, body })
}

fn wanted_sound(node: &Node) -> Result<WantedSound, Fault> {
    let mut fields = Fields::new(node, "`sound`")?;
    let wanted = WantedSound {
        hz: f64::from(number(fields.need("hz")?, HERTZ)?),
        least: fields.duration("for")?.unwrap_or(SOUND_LEAST),
    };
    fields.end()?;
    Ok(wanted)
}

/// The text of the user, or a mapping.
fn wanted_question(node: &Node) -> Result<WantedQuestion, Fault> {
    if node.value.text().is_some() {
        return Ok(WantedQuestion { user: TextMatch::read(node)?, ..WantedQuestion::default() });
    }
    let mut fields = Fields::new(node, "`model`")?;
    let wanted = WantedQuestion {
        user: fields.take("user").map(TextMatch::read).transpose()?.unwrap_or_default(),
        tool: fields.text("tool")?,
        model: fields.text("model")?,
        body: fields.take("body").map(TextMatch::read).transpose()?.unwrap_or_default(),
        times: fields.take("times").map(|node| range(node, "`times`", whole)).transpose()?,
    };
    fields.end()?;
    Ok(wanted)
}

fn wanted_answer(node: &Node) -> Result<WantedAnswer, Fault> {
    if node.value.text().is_some() {
        return Ok(WantedAnswer { method: None, answer: Ok(TextMatch::read(node)?) });
    }
    let mut fields = Fields::new(node, "`answer`")?;
    let method = fields.text("method")?;
    let payload = fields.take("payload").map(TextMatch::read).transpose()?;
    let error = fields.take_nullable("error");
    let answer = match (payload, error) {
        (Some(_), Some(_)) => return Err((fields.line, "an answer has a payload or an error".into())),
        (payload, None) => Ok(payload.unwrap_or_default()),
        (None, Some(Node { value: Value::Null, .. })) => Err(None),
        (None, Some(code)) => Err(Some(whole(code)?)),
    };
    fields.end()?;
    Ok(WantedAnswer { method, answer })
}

/// `7`, or a mapping with `min` and `max`.
fn range(node: &Node, what: &'static str, read: fn(&Node) -> Result<u64, Fault>) -> Result<Range, Fault> {
    if node.value.text().is_some() {
        let exactly = read(node)?;
        return Ok(Range { min: Some(exactly), max: Some(exactly) });
    }
    let mut fields = Fields::new(node, what)?;
    let (min, max) = (fields.take("min").map(read).transpose()?, fields.take("max").map(read).transpose()?);
    let line = fields.line;
    fields.end()?;
    match (min, max) {
        (None, None) => Err((line, format!("{what} needs `min:` or `max:`"))),
        (Some(min), Some(max)) if min > max => Err((line, format!("{what} has `min: {min}` above `max: {max}`"))),
        _ => Ok(Range { min, max }),
    }
}

fn wanted_end(node: &Node) -> Result<WantedEnd, Fault> {
    let (codes, detail) = match &node.value {
        Value::Map(_) => {
            let mut fields = Fields::new(node, "`end`")?;
            let codes = fields.items("code").iter().map(code).collect::<Result<Vec<_>, _>>()?;
            let detail = fields.take("detail").map(TextMatch::read).transpose()?.unwrap_or_default();
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

//! One step of a scenario.

use std::time::Duration;

use wasm_worker_core::text::clip;
use wasm_worker_mock_models::fields::{Fields, text};
use wasm_worker_mock_models::tree::{Fault, Node, Value};

use super::super::ReadFile;
use super::super::script::{Action, Fault as ScriptFault, Said, SentFile};
use super::{expect, identity, person, servers, texts_by_name, time};
use crate::sound::{Sound, wav};

/// Every step.
const STEPS: &str = "join, leave, say, data, file, call, attributes, answer, http, socket, socket-send, socket-close, advance, \
    at, stop, drain, fault, expect";

/// Time that a caller waits for the agent's answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Read the step with this name.
pub(super) fn read(name: &str, line: usize, value: &Node, read: ReadFile<'_>) -> Result<Action, Fault> {
    Ok(match name {
        "join" => Action::Join(person(value)?),
        "leave" => Action::Leave { identity: identity(value)? },
        "say" => said(value, read)?,
        "data" => data(value)?,
        "file" => file(value)?,
        "call" => call(value)?,
        "attributes" => change(value)?,
        "answer" => Action::Answer(servers::answer(value)?.into()),
        "http" => Action::Http(servers::http(value)?.into()),
        "socket" => Action::Socket(servers::socket(value)?.into()),
        "socket-send" => servers::socket_send(value)?,
        "socket-close" => servers::socket_close(value)?,
        "advance" => Action::Advance(time(value)?),
        "at" => Action::At(time(value)?),
        "stop" => Action::Stop { reason: reason(value, "stopped by the scenario")? },
        "drain" => Action::Drain { reason: reason(value, "drained by the scenario")? },
        "fault" => Action::Fault(fault(value)?),
        "expect" => Action::Expect(expect::read(value)?.into()),
        other => return Err((line, format!("`{other}` is no step; known are {STEPS}"))),
    })
}

/// A text, or a file of sound.
fn said(node: &Node, read: ReadFile<'_>) -> Result<Action, Fault> {
    let mut fields = Fields::new(node, "`say`")?;
    let (from, topic, attributes) =
        (fields.need_text("from")?, fields.text("topic")?, fields.texts_by_name("attributes")?);
    let (text, wav, line) = (fields.text("text")?, fields.text("wav")?, fields.line);
    fields.end()?;
    match (text, wav) {
        (Some(text), None) => {
            Ok(Action::Say(Said { from, topic: topic.unwrap_or_else(|| "lk.chat".into()), text, attributes }))
        }
        (None, Some(_)) if topic.is_some() || !attributes.is_empty() => {
            Err((line, "`topic` and `attributes` are of a text".into()))
        }
        (None, Some(name)) => Ok(Action::Speak { from, sound: spoken(&name, line, read)?.into() }),
        _ => Err((line, "want one of `text` and `wav` in `say`".into())),
    }
}

fn spoken(name: &str, line: usize, read: ReadFile<'_>) -> Result<Sound, Fault> {
    let shown = clip(name);
    let file = read(name, wav::BYTES_MAX).map_err(|why| (line, format!("`{shown}` cannot be read: {why}")))?;
    wav::read(&file).map_err(|why| (line, format!("`{shown}` cannot be spoken: {why}")))
}

fn data(node: &Node) -> Result<Action, Fault> {
    let mut fields = Fields::new(node, "`data`")?;
    let action = Action::Data {
        from: fields.need_text("from")?,
        topic: fields.text_or_empty("topic")?,
        payload: fields.need_text("payload")?,
    };
    fields.end()?;
    Ok(action)
}

fn file(node: &Node) -> Result<Action, Fault> {
    let mut fields = Fields::new(node, "`file`")?;
    let file = SentFile {
        from: fields.need_text("from")?,
        topic: fields.text_or_empty("topic")?,
        name: fields.need_text("name")?,
        mime_type: fields.text("mime-type")?.unwrap_or_else(|| "application/octet-stream".into()),
        content: fields.need_text("content")?,
    };
    fields.end()?;
    Ok(Action::File(file))
}

fn call(node: &Node) -> Result<Action, Fault> {
    let mut fields = Fields::new(node, "`call`")?;
    let action = Action::Call {
        from: fields.need_text("from")?,
        method: fields.need_text("method")?,
        payload: fields.text_or_empty("payload")?,
        timeout: fields.duration("timeout")?.unwrap_or(CALL_TIMEOUT),
    };
    fields.end()?;
    Ok(action)
}

fn change(node: &Node) -> Result<Action, Fault> {
    let mut fields = Fields::new(node, "`attributes`")?;
    let identity = fields.need_text("of")?;
    let attributes = texts_by_name(fields.need("set")?)?;
    fields.end()?;
    Ok(Action::Change { identity, attributes })
}

fn reason(node: &Node, default: &str) -> Result<String, Fault> {
    match &node.value {
        Value::Null => Ok(default.to_owned()),
        _ => text(node).map(str::to_owned),
    }
}

fn fault(node: &Node) -> Result<ScriptFault, Fault> {
    if let Some(name) = node.value.text() {
        return match name {
            "kill" => Ok(ScriptFault::Kill),
            "disconnect" => Ok(ScriptFault::Disconnect { reason: "connection-lost".into() }),
            other => Err((node.line, format!("`{other}` is no fault; known are kill, disconnect, reconnect: TIME"))),
        };
    }
    let mut fields = Fields::new(node, "`fault`")?;
    let disconnect = fields.text("disconnect")?;
    let reconnect = fields.duration("reconnect")?;
    let line = fields.line;
    fields.end()?;
    match (disconnect, reconnect) {
        (Some(reason), None) => Ok(ScriptFault::Disconnect { reason }),
        (None, Some(after)) => Ok(ScriptFault::Reconnect { after }),
        _ => Err((line, "want one fault: `kill`, `disconnect: REASON` or `reconnect: TIME`".into())),
    }
}

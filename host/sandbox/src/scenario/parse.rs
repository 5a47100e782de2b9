//! From the tree of a document to a script, with every check that needs no agent. Pure.

mod expect;
mod servers;

mod action;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use wasm_worker_core::room::people::{Participant, ParticipantKind};
use wasm_worker_core::text::clip;
use wasm_worker_mock_models::fields::{Fields, text, texts_by_name, time, whole};
use wasm_worker_mock_models::tree::{Fault, Node, Value};

use super::matching::amount;
use super::script::{Action, JobFacts, LimitChanges, Script, Step};
use super::{FILE_BYTES_MAX, ModelScript, ReadFile};
use crate::guest::Seed;

/// Most steps of a scenario.
const STEPS_MAX: usize = 10_000;
/// The beginning of a job whose scenario names no time: 2026-01-01T12:00:00Z.
const BEGAN: Duration = Duration::from_secs(1_767_268_800);

/// Read a document, and the files that it names.
pub(super) fn script(document: &Node, read: ReadFile<'_>) -> Result<Script, Fault> {
    let mut fields = Fields::new(document, "a scenario")?;
    let name = fields.text("name")?;
    let seed = fields.take("seed").map_or_else(|| Ok(seed_of(1)), seed)?;
    let began = fields.take("time").map(date).transpose()?.unwrap_or(BEGAN);
    let job = JobFacts {
        room: fields.text("room")?.unwrap_or_else(|| "test".into()),
        room_metadata: fields.text_or_empty("room-metadata")?,
        metadata: fields.text_or_empty("metadata")?,
        attributes: fields.texts_by_name("attributes")?,
        participants: fields.items("participants").iter().map(person).collect::<Result<_, _>>()?,
    };
    let limits = fields.take("limits").map(limits).transpose()?.unwrap_or_default();
    let model = fields.take("model").map(|node| model(node, &mut *read)).transpose()?.map(Arc::new);
    let list = fields.need("steps")?;
    fields.end()?;
    let Value::List(items) = &list.value else {
        return Err((list.line, format!("want a list of steps, got {}", list.value.kind())));
    };
    if items.len() > STEPS_MAX {
        return Err((list.line, format!("{} steps, at most {STEPS_MAX} are allowed", items.len())));
    }
    let steps = items.iter().map(|node| step(node, &mut *read)).collect::<Result<Vec<_>, _>>()?;
    check_assertions(&steps, list.line)?;
    check_times(&steps)?;
    check_people(&steps, &job.participants)?;
    Ok(Script { name, seed, began, limits, job, model, steps })
}

/// A number, or the 64 hexadecimal digits of a recorded seed.
fn seed(node: &Node) -> Result<Seed, Fault> {
    let text = text(node)?;
    if let Some(seed) = hexadecimal(text) {
        return Ok(seed);
    }
    whole(node).map(seed_of)
}

fn seed_of(number: u64) -> Seed {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn hexadecimal(text: &str) -> Option<Seed> {
    blake3::Hash::from_hex(text).ok().map(|hash| *hash.as_bytes())
}

fn step(node: &Node, read: ReadFile<'_>) -> Result<Step, Fault> {
    let Value::Map(pairs) = &node.value else {
        return Err((node.line, format!("want a step such as `join: ann`, got {}", node.value.kind())));
    };
    let [(name, line, value)] = pairs.as_slice() else {
        return Err((node.line, format!("want one key in a step, got {}", pairs.len())));
    };
    Ok(Step { line: *line, action: action::read(name, *line, value, read)? })
}

/// A participant: an identity, or a mapping with one.
fn person(node: &Node) -> Result<Participant, Fault> {
    if let Some(identity) = node.value.text() {
        return Ok(Participant::present(identity.to_owned()));
    }
    let mut fields = Fields::new(node, "a participant")?;
    let kind = match fields.text("kind")?.as_deref() {
        None | Some("standard") => ParticipantKind::Standard,
        Some("ingress") => ParticipantKind::Ingress,
        Some("egress") => ParticipantKind::Egress,
        Some("sip") => ParticipantKind::Sip,
        Some("agent") => ParticipantKind::Agent,
        Some("connector") => ParticipantKind::Connector,
        Some(other) => {
            let kinds = "standard, ingress, egress, sip, agent, connector";
            return Err((node.line, format!("`{other}` is no kind of participants; known are {kinds}")));
        }
    };
    let who = Participant::present(fields.need_text("identity")?);
    let who = Participant {
        name: fields.text_or_empty("name")?,
        metadata: fields.text_or_empty("metadata")?,
        attributes: fields.texts_by_name("attributes")?.into_iter().collect(),
        kind,
        ..who
    };
    fields.end()?;
    Ok(who)
}

fn date(node: &Node) -> Result<Duration, Fault> {
    let text = text(node)?;
    let time = text.parse::<Timestamp>().ok().and_then(|time| Duration::try_from(time.as_duration()).ok());
    time.ok_or_else(|| (node.line, format!("want a time from 1970 on such as 2026-03-01T09:00:00Z, got `{text}`")))
}

fn limits(node: &Node) -> Result<LimitChanges, Fault> {
    let mut fields = Fields::new(node, "limits")?;
    let memory = fields.take("memory").map(bytes).transpose()?;
    let changes = LimitChanges {
        line: node.line,
        fuel: fields.take("fuel").map(fuel).transpose()?,
        memory,
        max_duration: fields.duration("max-duration")?,
        shutdown_grace: fields.duration("shutdown-grace")?,
        unresponsive: fields.duration("unresponsive-timeout")?,
        inbox: fields.whole("inbox")?,
    };
    fields.end()?;
    Ok(changes)
}

/// The script of the model: the script itself, or the name of its file.
fn model(node: &Node, read: ReadFile<'_>) -> Result<ModelScript, Fault> {
    let Some(name) = node.value.text() else { return ModelScript::read(node) };
    let of_file = |why: String| (node.line, why);
    let text = read(name, FILE_BYTES_MAX).and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string()));
    let text = text.map_err(|why| of_file(format!("the script `{}` cannot be read: {why}", clip(name))))?;
    ModelScript::parse(name, &text).map_err(|error| of_file(error.to_string()))
}

/// An amount of fuel, such as `10M`.
fn fuel(node: &Node) -> Result<u64, Fault> {
    let text = text(node)?;
    amount(text).ok_or_else(|| (node.line, format!("want an amount of fuel such as 500k, 10M or 2G, got `{text}`")))
}

/// A number of bytes, such as `64MiB`.
fn bytes(node: &Node) -> Result<u64, Fault> {
    let text = text(node)?;
    let size = text.parse::<bytesize::ByteSize>();
    size.map(|size| size.as_u64()).map_err(|_| (node.line, format!("want a size such as 64MiB, got `{text}`")))
}

/// The identity of `join: ann` and `leave: ann`.
fn identity(node: &Node) -> Result<String, Fault> {
    text(node).map(str::to_owned)
}

fn check_assertions(steps: &[Step], line: usize) -> Result<(), Fault> {
    let asserts = steps.iter().any(|step| matches!(step.action, Action::Expect(_)));
    asserts.then_some(()).ok_or_else(|| (line, "the scenario has no `expect`, so it tests nothing".into()))
}

/// Times of `at` do not run back.
fn check_times(steps: &[Step]) -> Result<(), Fault> {
    let mut passed = Duration::ZERO;
    for step in steps {
        match &step.action {
            Action::Advance(by) => passed += *by,
            Action::At(time) if *time < passed => {
                let why = format!("time runs back: `at: {time:?}`, and at least {passed:?} are over by then");
                return Err((step.line, why));
            }
            Action::At(time) => passed = *time,
            _ => {}
        }
    }
    Ok(())
}

/// Those who act are in the room.
fn check_people(steps: &[Step], first: &[Participant]) -> Result<(), Fault> {
    let mut present = BTreeSet::new();
    for who in first {
        if !present.insert(who.identity.as_str()) {
            return Err((1, format!("`{}` is twice among the participants", who.identity)));
        }
    }
    for step in steps {
        let who = match &step.action {
            Action::Join(who) if !present.insert(&who.identity) => {
                return Err((step.line, format!("`{}` is in the room already", who.identity)));
            }
            Action::Leave { identity } if present.remove(identity.as_str()) => continue,
            Action::Leave { identity } | Action::Change { identity, .. } => identity,
            Action::Say(said) => &said.from,
            Action::Speak { from, .. } => from,
            Action::File(file) => &file.from,
            Action::Data { from, .. } | Action::Call { from, .. } => from,
            _ => continue,
        };
        if !present.contains(who.as_str()) {
            return Err((step.line, format!("`{who}` is not in the room; `- join: {who}` comes before this step")));
        }
    }
    Ok(())
}

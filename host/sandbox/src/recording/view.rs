//! The steps of a recording for people: names, ids, sizes and bounded texts.
//!
//! Bounds: a text has [`TEXT_CHARS_MAX`] characters; long lists of bytes are shown by their size.

use serde::Serialize;
use serde_json::Value;
use wasm_worker_core::text::one_line;
use wasm_worker_core::verdict::{FRAMES_MAX, frame_name};

use super::reader::{Reader, RecordingError};
use super::record::{Inside, Item, Step, StepEnd};
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::calls::Call;
use crate::guest::clock::Moment;
use crate::guest::events::{id_of, name_of};

/// Most characters of a text.
const TEXT_CHARS_MAX: usize = 2_000;
/// Longest list of numbers that is shown.
const NUMBERS_MAX: usize = 32;

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepView {
    /// Its number, from 1.
    pub step: u32,
    /// Its time since the launch, in milliseconds.
    pub at_ms: f64,
    /// CPU time, in microseconds.
    pub cpu_us: u32,
    /// Fuel that it used.
    pub fuel: u64,
    /// The events that it was given.
    pub events: Vec<ItemView>,
    /// The calls that it made.
    pub calls: Vec<ItemView>,
    /// How often it asked for its budget.
    pub budgets: usize,
    /// The timer that it set, in milliseconds; `off` where it switched the timer off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake: Option<WakeView>,
    /// The result of the job, where the step is its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// How it ended, where it did not return.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<EndView>,
}

/// The wish for a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WakeView {
    /// No timer.
    Off,
    /// After these milliseconds.
    AfterMs(u32),
}

/// An event or a call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ItemView {
    /// The name in the contract.
    pub name: String,
    /// The id that it belongs to; 0 for none.
    pub id: u32,
    /// Its content as text; empty where it is left out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Its size, where the content is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u32>,
}

/// The end of a step that did not return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndView {
    /// The kind of the end.
    pub how: String,
    /// What the host says about it.
    pub detail: String,
    /// The functions of the guest, innermost first.
    pub backtrace: Vec<String>,
}

impl Reader {
    /// Read the next step for people. `None` after the last one.
    ///
    /// # Errors
    /// When the file cannot be read, or has been changed.
    pub fn next_view(&mut self) -> Result<Option<StepView>, RecordingError> {
        Ok(self.next()?.map(|step| view(&step)))
    }
}

/// A step for people.
pub(crate) fn view(step: &Step) -> StepView {
    let (events, calls) = match &step.inside {
        Inside::Whole { events, calls } => {
            (events.iter().map(event_view).collect(), calls.iter().map(call_view).collect())
        }
        Inside::Outline { events, calls } => {
            (events.iter().map(item_view).collect(), calls.iter().map(item_view).collect())
        }
    };
    let facts = &step.facts;
    StepView {
        step: step.number,
        at_ms: Moment::of_units(step.at).as_ms(),
        cpu_us: facts.cpu_us,
        fuel: facts.fuel,
        events,
        calls,
        budgets: facts.budgets.len(),
        wake: facts.wake.map(|wake| wake.map_or(WakeView::Off, WakeView::AfterMs)),
        finish: facts.finish.as_ref().map(|result| match result {
            Ok(()) => "ok".into(),
            Err(error) => format!("error: {}", clip(error)),
        }),
        end: end_view(&facts.end),
    }
}

/// An event for people.
pub(crate) fn event_view(event: &Event) -> ItemView {
    ItemView { name: name_of(event).into(), id: id_of(event), text: text_of(event), bytes: None }
}

/// A call for people.
pub(crate) fn call_view(call: &Call) -> ItemView {
    let fields = fields_of(call);
    let id = fields.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
    ItemView { name: call.name().into(), id, text: said(fields), bytes: None }
}

/// A line for a difference.
pub(crate) fn call_line(call: &Call) -> String {
    let ItemView { name, id, text, .. } = call_view(call);
    let id = if id == 0 { String::new() } else { format!(" #{id}") };
    format!("{name}{id} {text}").trim_end().to_owned()
}

/// The end of a step for people; none where it returned.
pub(crate) fn end_view(end: &StepEnd) -> Option<EndView> {
    let (how, detail, backtrace) = match end {
        StepEnd::Returned => return None,
        StepEnd::Dropped => ("dropped".into(), "the guest did not notice that it was to be killed".into(), Vec::new()),
        StepEnd::Trapped { kind, detail, backtrace } => (format!("trapped: {kind}"), clip(detail), backtrace.clone()),
        StepEnd::Killed { code, detail, backtrace, .. } => (format!("killed: {code}"), clip(detail), backtrace.clone()),
        StepEnd::OutOfFuel { backtrace } => {
            ("out of fuel".into(), "the job used up its fuel".into(), backtrace.clone())
        }
        StepEnd::Exited { status } => ("exited".into(), format!("the agent exited with status {status}"), Vec::new()),
        StepEnd::Failed { detail } => ("host fault".into(), clip(detail), Vec::new()),
    };
    let backtrace = backtrace.iter().take(FRAMES_MAX).map(|frame| frame_name(frame)).collect();
    Some(EndView { how: clip(&how), detail, backtrace })
}

fn item_view(item: &Item) -> ItemView {
    ItemView { name: clip(&item.name), id: item.id, text: String::new(), bytes: Some(item.bytes) }
}

fn text_of(value: &impl Serialize) -> String {
    said(fields_of(value))
}

/// The fields of a case of a variant.
fn fields_of(value: &impl Serialize) -> Value {
    match serde_json::to_value(value) {
        Ok(Value::Object(case)) if case.len() == 1 => {
            case.into_iter().next().map(|(_, fields)| fields).unwrap_or_default()
        }
        Ok(Value::String(_)) | Err(_) => Value::Null,
        Ok(other) => other,
    }
}

/// Fields as text: `name: value`, without ids, and without what is empty. What has fields of its own comes last.
fn said(fields: Value) -> String {
    let text = match fields {
        Value::Object(fields) => {
            let shown = fields.into_iter().filter(|(name, value)| name != "id" && !is_empty(value));
            let (nested, plain): (Vec<_>, Vec<_>) = shown.partition(|(_, value)| value.is_object());
            plain
                .into_iter()
                .chain(nested)
                .map(|(name, value)| format!("{}: {}", name.replace('_', "-"), short(value)))
                .collect::<Vec<_>>()
                .join(", ")
        }
        other if is_empty(&other) => String::new(),
        other => short(other),
    };
    clip(&text)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Number(number) => number.as_f64() == Some(0.0),
    }
}

/// A value with its lists of bytes as sizes, and without what is empty in it.
fn short(value: Value) -> String {
    match value {
        Value::Object(_) => format!("{{{}}}", said(value)),
        Value::Array(list) if list.len() > 1 && list.iter().all(Value::is_u64) => short_bytes(&list),
        Value::Array(list) => format!("[{}]", list.into_iter().map(short).collect::<Vec<_>>().join(", ")),
        Value::String(text) => format!("`{text}`"),
        other => other.to_string(),
    }
}

/// Bytes as text where they are one, else by their number where they are many.
fn short_bytes(list: &[Value]) -> String {
    let byte = |value: &Value| value.as_u64().and_then(|value| u8::try_from(value).ok());
    let bytes: Option<Vec<u8>> = list.iter().map(byte).collect();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|text| !text.contains(char::is_control));
    match text {
        Some(text) => format!("`{text}`"),
        None if list.len() > NUMBERS_MAX => format!("({} bytes)", list.len()),
        None => format!("[{}]", list.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn clip(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(TEXT_CHARS_MAX) {
        None => line.into_owned(),
        Some((end, _)) => format!("{}… ({} bytes in all)", line.get(..end).unwrap_or_default(), line.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::tests::example;
    use super::*;

    #[test]
    fn a_step_has_names_ids_and_texts() {
        let view = view(&example(3));
        let items: Vec<_> =
            view.events.iter().chain(&view.calls).map(|item| (&*item.name, item.id, &*item.text)).collect();
        assert_eq!(items, [("done", 3, "value: `é`"), ("tasks-wanted", 0, ""), ("write-text", 3, "text: `hello`")]);
        assert_eq!((view.at_ms, view.wake, view.budgets), (3.0, Some(WakeView::AfterMs(5)), 1));
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["wake"]["after-ms"], 5);
    }

    #[test]
    fn long_contents_are_bounded_and_bytes_may_be_text() {
        let data =
            Call::SendData { id: None, topic: "t".into(), payload: b"hi there".to_vec(), destinations: Vec::new() };
        assert_eq!(call_line(&data), "send-data payload: `hi there`, topic: `t`");
        let call = Call::WriteAudio { id: 2, pcm: vec![1; 64_000] };
        assert_eq!(call_line(&call), "write-audio #2 pcm: (64000 bytes)");
        let text = Call::WriteText { id: 2, text: "é\n".repeat(9_000) };
        assert!(call_line(&text).len() < 5_000 && !call_line(&text).contains('\n'));
    }
}

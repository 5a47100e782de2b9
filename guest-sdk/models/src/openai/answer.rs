//! An answer, from the bytes of the server to the parts for the agent. Pure.

use serde_json::Value;
use wasm_worker_sdk::LlmUsage;

use super::refusal;
use super::tool_calls::ToolCalls;
use crate::sse::Parser;
use crate::wire;
use crate::{ChatDelta, ChatEnd, ChatError, Finish};

/// Number of bytes of one event.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// Number of bytes of an answer: its text, its reasoning and the arguments of its calls.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Number of bytes of the whole body. An event of one token has some 300 bytes.
const BODY_BYTES_MAX: usize = 64 << 20;

/// An answer that is being read.
#[derive(Debug, Default)]
pub(super) struct Answer {
    form: Form,
    /// Bytes of the body so far.
    read: usize,
    /// Bytes of the text, the reasoning and the arguments so far.
    kept: usize,
    /// Number of pieces of text, reasoning or calls so far.
    tokens: u64,
    calls: ToolCalls,
    finish: Option<String>,
    usage: Option<LlmUsage>,
    /// The mark of the end was read.
    done: bool,
}

/// What the server sends.
#[derive(Debug, Default)]
enum Form {
    /// Nothing yet, or spaces.
    #[default]
    Unknown,
    /// A stream of events.
    Events(Parser),
    /// A whole answer, although a stream was asked for, or an error; or the page of a proxy.
    Whole(Vec<u8>),
}

impl Answer {
    /// Number of pieces of text, reasoning or calls so far.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Whether the server told why the answer ended, or that it did. The usage may still follow.
    pub(super) fn is_complete(&self) -> bool {
        self.done || self.finish.is_some()
    }

    /// Whether the mark of the end was read.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The tokens that the server told so far.
    pub(super) fn usage(&self) -> Option<LlmUsage> {
        self.usage
    }

    /// Takes bytes, and returns the parts that they complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<ChatDelta>, ChatError> {
        self.read += bytes.len();
        if self.read > BODY_BYTES_MAX {
            return Err(ChatError::TooLarge(format!("its stream has more than {BODY_BYTES_MAX} bytes")));
        }
        if matches!(self.form, Form::Unknown) {
            self.form = match wire::Form::of(bytes) {
                None => return Ok(Vec::new()),
                Some(wire::Form::Whole) => Form::Whole(Vec::new()),
                Some(wire::Form::Events) => Form::Events(Parser::new(EVENT_BYTES_MAX)),
            };
        }
        let events = match &mut self.form {
            Form::Events(parser) => parser.feed(bytes).map_err(|error| ChatError::TooLarge(error.to_string()))?,
            Form::Whole(body) if body.len() + bytes.len() > ANSWER_BYTES_MAX => {
                return Err(ChatError::TooLarge(format!("it has more than {ANSWER_BYTES_MAX} bytes")));
            }
            Form::Whole(body) => {
                body.extend_from_slice(bytes);
                return Ok(Vec::new());
            }
            Form::Unknown => return Ok(Vec::new()),
        };
        let mut deltas = Vec::new();
        for event in events {
            self.event(&event.event, &event.data, &mut deltas)?;
        }
        Ok(deltas)
    }

    /// Ends the answer: the parts that were left, the calls among them, and the end. An answer without an end is cut: its
    /// text counts, its calls do not.
    pub(super) fn finish(mut self) -> (Vec<ChatDelta>, Result<ChatEnd, ChatError>) {
        let mut deltas = Vec::new();
        if let Err(error) = self.read_rest(&mut deltas) {
            return (deltas, Err(error));
        }
        if !self.is_complete() {
            let is_empty = self.tokens == 0;
            let error = if is_empty { ChatError::Invalid("the answer is empty".into()) } else { ChatError::Cut };
            return (deltas, Err(error));
        }
        let has_calls = !self.calls.is_empty();
        let finish = match self.finish.as_deref() {
            Some("length") => Finish::Length,
            // Some servers end the calls of tools with `stop`.
            _ if has_calls => Finish::ToolCalls,
            Some("stop") | None => Finish::Stop,
            Some("content_filter") => Finish::ContentFilter,
            Some(other) => Finish::Other(other.to_owned()),
        };
        deltas.extend(self.calls.finish().into_iter().map(ChatDelta::ToolCall));
        (deltas, Ok(ChatEnd { finish, usage: self.usage }))
    }

    /// Takes what no empty line has ended, or the whole answer.
    fn read_rest(&mut self, deltas: &mut Vec<ChatDelta>) -> Result<(), ChatError> {
        match std::mem::take(&mut self.form) {
            Form::Unknown => Ok(()),
            Form::Events(parser) => {
                let last = parser.finish().map_err(|error| ChatError::TooLarge(error.to_string()))?;
                last.map_or(Ok(()), |event| self.event(&event.event, &event.data, deltas))
            }
            Form::Whole(body) => {
                let text = String::from_utf8_lossy(&body);
                let value = serde_json::from_str(&text);
                let value = value.map_err(|_| ChatError::Invalid(format!("it sent `{}`", wire::page(&text))))?;
                self.chunk(&value, deltas)?;
                self.done = self.tokens > 0;
                Ok(())
            }
        }
    }

    fn event(&mut self, kind: &str, data: &str, deltas: &mut Vec<ChatDelta>) -> Result<(), ChatError> {
        let data = data.trim();
        if self.done || data.is_empty() {
            return Ok(());
        }
        if data == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        match serde_json::from_str(data) {
            Ok(value) => self.chunk(&value, deltas),
            // Without empty lines between them, several events look like one.
            Err(_) if data.contains('\n') => data.lines().try_for_each(|line| self.event(kind, line, deltas)),
            Err(_) if kind == "error" => Err(ChatError::Told { code: String::new(), message: wire::page(data) }),
            Err(error) => Err(ChatError::Invalid(format!("{error} in `{}`", wire::page(data)))),
        }
    }

    /// Takes one chunk of a stream, or the whole answer.
    fn chunk(&mut self, value: &Value, deltas: &mut Vec<ChatDelta>) -> Result<(), ChatError> {
        if let Some((code, message)) = refusal::told(value) {
            return Err(ChatError::Told { code, message });
        }
        let choices = value.get("choices").and_then(Value::as_array);
        // The answer is the choice with the number 0, or with none.
        let is_ours = |choice: &&Value| choice.get("index").and_then(Value::as_u64).unwrap_or_default() == 0;
        let choice = choices.and_then(|choices| choices.iter().find(is_ours));
        // Groq has the usage in a field of its own, Moonshot in the choice.
        let told = [Some(value), value.get("x_groq"), choice].into_iter().flatten();
        self.usage = told.filter_map(|place| usage(place.get("usage")?)).next().or(self.usage);
        let Some(choice) = choice else { return Ok(()) };
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str).filter(|reason| !reason.is_empty()) {
            self.finish = Some(reason.to_owned());
        }
        let delta = choice.get("delta").filter(|delta| delta.is_object());
        // A whole answer has a message. A few servers repeat it at the end of a stream.
        let message = choice.get("message").filter(|_| self.tokens == 0);
        if let Some(message) = delta.or(message) {
            self.message(message, deltas)?;
        }
        Ok(())
    }

    fn message(&mut self, message: &Value, deltas: &mut Vec<ChatDelta>) -> Result<(), ChatError> {
        let mut reasoning = text(message.get("reasoning_content"));
        if reasoning.is_empty() {
            reasoning = text(message.get("reasoning"));
        }
        reasoning.push_str(&parts(message.get("content"), "thinking"));
        if !reasoning.is_empty() {
            self.keep(reasoning.len())?;
            deltas.push(ChatDelta::Reasoning(reasoning));
        }
        let content = text(message.get("content")) + &parts(message.get("content"), "text");
        // A refusal is what the model says instead.
        let content = if content.is_empty() { text(message.get("refusal")) } else { content };
        if !content.is_empty() {
            self.keep(content.len())?;
            deltas.push(ChatDelta::Text(content));
        }
        for piece in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let bytes = self.calls.add(piece)?;
            self.keep(bytes)?;
        }
        Ok(())
    }

    fn keep(&mut self, bytes: usize) -> Result<(), ChatError> {
        self.tokens += 1;
        self.kept += bytes;
        if self.kept > ANSWER_BYTES_MAX {
            return Err(ChatError::TooLarge(format!("it has more than {ANSWER_BYTES_MAX} bytes")));
        }
        Ok(())
    }
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The texts of a content that is a list, as Mistral's thinking models send it.
fn parts(content: Option<&Value>, kind: &str) -> String {
    let parts = content.and_then(Value::as_array).into_iter().flatten();
    let of_kind = parts.filter(|part| part.get("type").is_some_and(|have| have == kind));
    of_kind.map(|part| text(part.get(kind)) + &parts_within(part.get(kind))).collect()
}

fn parts_within(list: Option<&Value>) -> String {
    list.and_then(Value::as_array).into_iter().flatten().map(|part| text(part.get("text"))).collect()
}

/// The tokens, under the names of chat completions. Where they are told more than once, the last time counts.
fn usage(usage: &Value) -> Option<LlmUsage> {
    let fields = usage.as_object()?;
    let number = |name: &str| fields.get(name).and_then(Value::as_u64);
    let cached = fields.get("prompt_tokens_details").and_then(|details| details.get("cached_tokens"));
    let cached = cached.and_then(Value::as_u64).or(number("prompt_cache_hit_tokens")).unwrap_or_default();
    let (input, output) = (number("prompt_tokens"), number("completion_tokens"));
    if input.is_none() && output.is_none() {
        return None;
    }
    Some(LlmUsage {
        input_tokens: input.unwrap_or_default(),
        input_cached_tokens: cached,
        output_tokens: output.unwrap_or_default(),
    })
}

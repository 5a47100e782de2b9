//! Answers of `POST /v1/chat/completions`. Form: OpenAI's API reference, "The chat completion object" and its chunk.

use serde_json::{Map, Value, json};

use super::Head;
use super::events::Event;
use crate::plan::{Finish, Piece, Usage};
use crate::request::Delivery;
use crate::script::MODEL;

/// The answer to one request.
#[derive(Debug)]
pub(super) struct Chat {
    head: Head,
    /// Calls that have begun.
    calls: usize,
}

impl Chat {
    pub(super) const fn new(head: Head) -> Self {
        Self { head, calls: 0 }
    }

    /// The first event: the role, and an empty text where a text follows.
    pub(super) fn begin(&self, has_text: bool) -> Event {
        let content = has_text.then_some("");
        self.chunk(&json!({ "role": "assistant", "content": content, "refusal": null }), None)
    }

    /// An event without choices.
    pub(super) fn without_choices(&self, usage: Option<Usage>) -> Event {
        let mut chunk = self.common("chat.completion.chunk");
        chunk.insert("choices".into(), json!([]));
        if self.head.delivery == Delivery::StreamWithUsage {
            chunk.insert("usage".into(), usage.map(usage_json).unwrap_or_default());
        }
        Event::unnamed(Value::Object(chunk).to_string())
    }

    pub(super) fn piece(&mut self, piece: Piece) -> Option<Event> {
        let delta = match piece {
            Piece::Text(text) => json!({ "content": text }),
            Piece::LongLine(bytes) => json!({ "content": "x".repeat(bytes) }),
            Piece::Call { id, name } => {
                let index = self.calls;
                self.calls += 1;
                let function = json!({ "name": name, "arguments": "" });
                json!({ "tool_calls": [{ "index": index, "id": id, "type": "function", "function": function }] })
            }
            Piece::Arguments(text) => {
                let index = self.calls.saturating_sub(1);
                json!({ "tool_calls": [{ "index": index, "function": { "arguments": text } }] })
            }
            Piece::WrongJson => {
                let id = self.id();
                return Some(Event::unnamed(format!("{{\"id\":\"{id}\",\"choices\":[{{\"delta\":{{\"content\":\"")));
            }
            Piece::Interrupted(_) => return None,
        };
        Some(self.chunk(&delta, None))
    }

    pub(super) fn end(&self, finish: Finish, usage: Option<Usage>) -> Vec<Event> {
        let mut events = vec![self.chunk(&json!({}), Some(finish))];
        if self.head.delivery == Delivery::StreamWithUsage && usage.is_some() {
            events.push(self.without_choices(usage));
        }
        events
    }

    /// The whole answer.
    pub(super) fn whole(
        &self,
        pieces: impl Iterator<Item = Piece>,
        finish: Finish,
        usage: Option<Usage>,
        is_empty: bool,
    ) -> Value {
        let (mut text, mut calls) = (None::<String>, Vec::<(String, String, String)>::new());
        for piece in pieces {
            match piece {
                Piece::Text(token) => text.get_or_insert_default().push_str(&token),
                Piece::LongLine(bytes) => text.get_or_insert_default().push_str(&"x".repeat(bytes)),
                Piece::Call { id, name } => calls.push((id, name, String::new())),
                Piece::Arguments(token) => {
                    if let Some((.., arguments)) = calls.last_mut() {
                        arguments.push_str(&token);
                    }
                }
                Piece::WrongJson | Piece::Interrupted(_) => {}
            }
        }
        if calls.is_empty() {
            text.get_or_insert_default();
        }
        let mut message = json!({ "role": "assistant", "content": text, "refusal": null, "annotations": [] });
        if let (false, Some(message)) = (calls.is_empty(), message.as_object_mut()) {
            let call = |(id, name, arguments)| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
            message.insert("tool_calls".into(), calls.into_iter().map(call).collect());
        }
        let choice =
            json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(finish) });
        let mut body = self.common("chat.completion");
        body.insert("choices".into(), if is_empty { json!([]) } else { json!([choice]) });
        if let Some(usage) = usage {
            body.insert("usage".into(), usage_json(usage));
        }
        Value::Object(body)
    }

    fn id(&self) -> String {
        format!("chatcmpl-stand-in-{}", self.head.number)
    }

    fn common(&self, object: &str) -> Map<String, Value> {
        [
            ("id", Value::String(self.id())),
            ("object", object.into()),
            ("created", self.head.created.into()),
            ("model", self.head.model.clone().into()),
            ("service_tier", "default".into()),
            ("system_fingerprint", MODEL.into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    fn chunk(&self, delta: &Value, finish: Option<Finish>) -> Event {
        let mut chunk = self.common("chat.completion.chunk");
        let finish = finish.map(finish_reason);
        let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish });
        chunk.insert("choices".into(), json!([choice]));
        if self.head.delivery == Delivery::StreamWithUsage {
            chunk.insert("usage".into(), Value::Null);
        }
        Event::unnamed(Value::Object(chunk).to_string())
    }
}

const fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
    }
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt.saturating_add(usage.completion),
        "prompt_tokens_details": { "cached_tokens": usage.cached, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

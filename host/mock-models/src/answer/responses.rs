//! Answers of `POST /v1/responses`. Form: OpenAI's API reference, "The response object" and "Streaming events".

use serde_json::{Value, json};

use super::Head;
use super::events::Event;
use crate::error::ApiError;
use crate::error::ErrorBody;
use crate::plan::{Finish, Piece, Usage};

/// The answer to one request.
#[derive(Debug)]
pub(super) struct Responses {
    head: Head,
    /// The number of the next event.
    sequence: u64,
    /// The items that are complete.
    output: Vec<Value>,
    open: Option<Open>,
}

/// The item that is not complete.
#[derive(Debug)]
enum Open {
    Message { text: String },
    Call { call_id: String, name: String, arguments: String },
}

impl Responses {
    pub(super) const fn new(head: Head) -> Self {
        Self { head, sequence: 0, output: Vec::new(), open: None }
    }

    pub(super) fn begin(&mut self) -> Vec<Event> {
        let response = self.response("in_progress", &Value::Null, None);
        let created = self.event("response.created", json!({ "response": response }));
        vec![created, self.event("response.in_progress", json!({ "response": response }))]
    }

    pub(super) fn piece(&mut self, piece: Piece) -> Vec<Event> {
        match piece {
            Piece::Text(text) => self.text(text),
            Piece::LongLine(bytes) => self.text("x".repeat(bytes)),
            Piece::Call { id, name } => {
                let mut events = self.close();
                self.open = Some(Open::Call { call_id: id, name, arguments: String::new() });
                let (index, item) = (self.index(), self.item("in_progress"));
                events.push(self.event("response.output_item.added", json!({ "output_index": index, "item": item })));
                events
            }
            Piece::Arguments(delta) => {
                if let Some(Open::Call { arguments, .. }) = &mut self.open {
                    arguments.push_str(&delta);
                }
                let fields = json!({ "item_id": self.item_id(), "output_index": self.index(), "delta": delta });
                vec![self.event("response.function_call_arguments.delta", fields)]
            }
            Piece::WrongJson => vec![Event::unnamed("{\"type\":\"response.output_text.delta\",\"delta\":\"".into())],
            Piece::Interrupted(_) => Vec::new(),
        }
    }

    fn text(&mut self, delta: String) -> Vec<Event> {
        let mut events = Vec::new();
        if !matches!(self.open, Some(Open::Message { .. })) {
            events.extend(self.close());
            self.open = Some(Open::Message { text: String::new() });
            let index = self.index();
            let item = json!({ "type": "message", "id": self.item_id(), "status": "in_progress", "role": "assistant", "content": [] });
            events.push(self.event("response.output_item.added", json!({ "output_index": index, "item": item })));
            let part = self.in_message(json!({ "part": text_part("") }));
            events.push(self.event("response.content_part.added", part));
        }
        let fields = self.in_message(json!({ "delta": delta, "logprobs": [] }));
        if let Some(Open::Message { text }) = &mut self.open {
            text.push_str(&delta);
        }
        events.push(self.event("response.output_text.delta", fields));
        events
    }

    /// Complete the open item.
    fn close(&mut self) -> Vec<Event> {
        let (index, item, item_id) = (self.index(), self.item("completed"), self.item_id());
        let mut events = Vec::new();
        match &self.open {
            None => return events,
            Some(Open::Message { text }) => {
                let text = text.clone();
                let done = self.in_message(json!({ "text": text, "logprobs": [] }));
                events.push(self.event("response.output_text.done", done));
                let part = self.in_message(json!({ "part": text_part(&text) }));
                events.push(self.event("response.content_part.done", part));
            }
            Some(Open::Call { name, arguments, .. }) => {
                let fields = json!({ "item_id": item_id, "output_index": index, "name": name, "arguments": arguments });
                events.push(self.event("response.function_call_arguments.done", fields));
            }
        }
        events.push(self.event("response.output_item.done", json!({ "output_index": index, "item": item })));
        self.output.push(item);
        self.open = None;
        events
    }

    pub(super) fn end(&mut self, finish: Finish, usage: Option<Usage>) -> Vec<Event> {
        let mut events = self.close();
        let (status, name, details) = ending(finish);
        let response = self.response(status, &details, usage);
        events.push(self.event(name, json!({ "response": response })));
        events
    }

    /// The event of a failure of the server.
    pub(super) fn failure(&mut self) -> Event {
        let ErrorBody::Object { message, kind, .. } = ApiError::of_status(500).body else {
            return Event::unnamed(String::new());
        };
        self.event("error", json!({ "code": kind, "message": message, "param": null }))
    }

    /// The whole answer.
    pub(super) fn whole(mut self, pieces: impl Iterator<Item = Piece>, finish: Finish, usage: Option<Usage>) -> Value {
        for piece in pieces {
            self.piece(piece);
        }
        self.close();
        let (status, _, details) = ending(finish);
        self.response(status, &details, usage)
    }

    fn event(&mut self, name: &'static str, mut fields: Value) -> Event {
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("type".into(), name.into());
            fields.insert("sequence_number".into(), self.sequence.into());
        }
        self.sequence += 1;
        Event::named(name, &fields)
    }

    /// Fields of an event about the open message.
    fn in_message(&self, mut fields: Value) -> Value {
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("item_id".into(), self.item_id().into());
            fields.insert("output_index".into(), self.index().into());
            fields.insert("content_index".into(), 0.into());
        }
        fields
    }

    const fn index(&self) -> usize {
        self.output.len()
    }

    fn item_id(&self) -> String {
        let kind = if matches!(self.open, Some(Open::Call { .. })) { "fc" } else { "msg" };
        format!("{kind}_{}_{}", self.head.number, self.index())
    }

    fn item(&self, status: &str) -> Value {
        match &self.open {
            None => Value::Null,
            Some(Open::Message { text }) => {
                let content = [text_part(text)];
                json!({ "type": "message", "id": self.item_id(), "status": status, "role": "assistant", "content": content })
            }
            Some(Open::Call { call_id, name, arguments }) => json!({
                "type": "function_call", "id": self.item_id(), "status": status,
                "call_id": call_id, "name": name, "arguments": arguments,
            }),
        }
    }

    fn response(&self, status: &str, incomplete: &Value, usage: Option<Usage>) -> Value {
        json!({
            "id": format!("resp_stand-in-{}", self.head.number),
            "object": "response",
            "created_at": self.head.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": incomplete,
            "instructions": null,
            "max_output_tokens": null,
            "metadata": {},
            "model": self.head.model,
            "output": self.output,
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "reasoning": { "effort": null, "summary": null },
            "store": false,
            "temperature": 1.0,
            "text": { "format": { "type": "text" } },
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": usage.map(usage_json),
        })
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

/// Status, last event and details of an answer that ends so.
fn ending(finish: Finish) -> (&'static str, &'static str, Value) {
    let incomplete = |reason: &str| ("incomplete", "response.incomplete", json!({ "reason": reason }));
    match finish {
        Finish::Stop | Finish::ToolCalls => ("completed", "response.completed", Value::Null),
        Finish::Length => incomplete("max_output_tokens"),
        Finish::ContentFilter => incomplete("content_filter"),
    }
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": { "cached_tokens": usage.cached },
        "output_tokens": usage.completion,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": usage.prompt.saturating_add(usage.completion),
    })
}

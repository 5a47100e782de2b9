//! The question of a client: checked as the vendor's servers check it, and the same for both protocols. Pure.
//!
//! Not checked: names and ranges of settings that have no effect here, such as `temperature`. Settings that this stand-in has not
//! are refused where an answer without them would be wrong: `n` above 1, and audio.

mod checks;

mod chat;
mod responses;

use serde_json::Value;

use crate::error::ApiError;

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/responses`.
    Responses,
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The protocol in which the client asks and is answered.
    pub protocol: Protocol,
    /// The name of the wanted model.
    pub model: String,
    /// How the answer comes.
    pub delivery: Delivery,
    /// The last text of the user; empty where there is none.
    pub user: String,
    /// The results of tools that came after that text, and after everything that the model said.
    pub results: Vec<ToolResult>,
    /// Words of the whole question: its tokens, as this stand-in counts.
    pub prompt_tokens: u64,
    /// The names of the tools that the model may call.
    pub tools: Vec<String>,
    /// Most calls of one answer.
    pub calls: CallsAllowed,
    /// Most tokens of the answer.
    pub tokens_max: Option<u64>,
    /// Texts at which the answer ends.
    pub stops: Vec<String>,
    /// The form of the answer's text.
    pub format: Format,
}

/// How an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As one body.
    Whole,
    /// As a stream of events.
    Stream,
    /// The same, with an event of usage at its end.
    StreamWithUsage,
}

/// Most calls of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallsAllowed {
    /// Several at once.
    Parallel,
    /// One.
    One,
    /// None: `tool_choice` is `none`.
    None,
}

/// The result of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The tool.
    pub name: String,
    /// Its result.
    pub text: String,
}

/// The form of an answer's text.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// Any.
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON by this schema.
    JsonSchema(Value),
}

impl Request {
    /// Read the body of a request.
    ///
    /// # Errors
    /// With the first fault, as the vendor's servers tell it.
    pub fn parse(protocol: Protocol, body: &[u8]) -> Result<Self, ApiError> {
        let body: Value = serde_json::from_slice(body).map_err(|error| {
            let message = format!("We could not parse the JSON body of your request: {error}");
            ApiError::invalid(None, None, message)
        })?;
        match protocol {
            Protocol::Chat => chat::read(&body),
            Protocol::Responses => responses::read(&body),
        }
    }
}

/// A conversation, as far as a script can ask for it.
#[derive(Default)]
struct Heard {
    user: String,
    results: Vec<ToolResult>,
    words: u64,
    /// Ids and names of the calls that the model made.
    calls: Vec<(String, String)>,
}

impl Heard {
    fn count(&mut self, text: &str) {
        self.words += text.split_whitespace().count() as u64;
    }

    fn user(&mut self, text: String) {
        self.count(&text);
        self.results.clear();
        self.user = text;
    }

    /// The model said or called something.
    fn model(&mut self, text: &str) {
        self.count(text);
        self.results.clear();
    }

    /// The result of the call with this id; its name, where such a call was made.
    fn result(&mut self, id: &str, text: String) -> Option<()> {
        let name = self.calls.iter().rev().find(|(known, _)| known == id).map(|(_, name)| name.clone())?;
        self.count(&text);
        self.results.push(ToolResult { name, text });
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::error::ErrorBody;

    fn read(protocol: Protocol, body: &Value) -> Result<Request, (Option<String>, Option<String>, String)> {
        Request::parse(protocol, body.to_string().as_bytes()).map_err(|error| match error.body {
            ErrorBody::Object { message, param, code, .. } if error.status == 400 => (param, code, message),
            other => panic!("{other:?}"),
        })
    }

    /// Read a chat with these messages and more fields.
    fn chat(messages: Value, more: Value) -> Result<Request, (Option<String>, Option<String>, String)> {
        let mut body = json!({ "model": "m", "messages": messages });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        read(Protocol::Chat, &body)
    }

    fn call(id: &str, name: &str) -> Value {
        json!({ "id": id, "type": "function", "function": { "name": name, "arguments": "{}" } })
    }

    #[test]
    fn a_chat_ends_with_the_user_or_with_results() {
        let first = json!([
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "text", "text": "the weather" }, { "type": "text", "text": " please" }] },
        ]);
        let request = chat(first, json!({})).unwrap();
        assert_eq!((request.user.as_str(), request.prompt_tokens), ("the weather please", 5));
        assert_eq!((request.delivery, request.calls), (Delivery::Whole, CallsAllowed::Parallel));
        let second = json!([
            { "role": "user", "content": "weather" },
            { "role": "assistant", "content": null, "tool_calls": [call("a", "now"), call("b", "later")] },
            { "role": "tool", "tool_call_id": "b", "content": "rain" },
            { "role": "tool", "tool_call_id": "a", "content": "sun" },
        ]);
        let request = chat(second, json!({})).unwrap();
        let results = [("later", "rain"), ("now", "sun")]
            .map(|(name, text)| ToolResult { name: name.to_owned(), text: text.to_owned() });
        assert_eq!((request.user.as_str(), request.results.as_slice()), ("weather", results.as_slice()));
    }

    #[test]
    fn settings_of_a_chat_are_read() {
        let more = json!({
            "stream": true, "stream_options": { "include_usage": true }, "max_completion_tokens": 7, "stop": ["a", "b"],
            "tools": [{ "type": "function", "function": { "name": "t" } }], "parallel_tool_calls": false,
            "response_format": { "type": "json_schema", "json_schema": { "name": "n", "schema": { "type": "object" } } },
        });
        let request = chat(json!([{ "role": "user", "content": "x" }]), more).unwrap();
        assert_eq!((request.delivery, request.calls), (Delivery::StreamWithUsage, CallsAllowed::One));
        assert_eq!((request.tokens_max, request.stops.len(), request.tools.len()), (Some(7), 2, 1));
        assert_eq!(request.format, Format::JsonSchema(json!({ "type": "object" })));
    }

    #[test]
    fn a_wrong_chat_is_refused_with_its_field() {
        let user = json!([{ "role": "user", "content": "x" }]);
        let param = |messages: &Value, more: Value| chat(messages.clone(), more).unwrap_err().0.unwrap();
        assert_eq!(param(&json!([]), json!({})), "messages");
        assert_eq!(param(&json!("x"), json!({})), "messages");
        assert_eq!(param(&json!([{ "role": "human", "content": "x" }]), json!({})), "messages[0].role");
        assert_eq!(param(&json!([{ "role": "user", "content": 1 }]), json!({})), "messages[0].content");
        assert_eq!(param(&json!([{ "role": "tool", "content": "x" }]), json!({})), "messages[0].tool_call_id");
        for (more, wanted) in [
            (json!({ "n": 2 }), "n"),
            (json!({ "stream": 1 }), "stream"),
            (json!({ "stream_options": {} }), "stream_options"),
            (json!({ "stop": ["a", "b", "c", "d", "e"] }), "stop"),
            (json!({ "stop": 1 }), "stop"),
            (json!({ "max_tokens": 0 }), "max_tokens"),
            (json!({ "tools": [{ "type": "function", "function": { "name": "a b" } }] }), "tools[0].function.name"),
            (json!({ "tools": [{ "type": "x" }] }), "tools[0].type"),
            (json!({ "tool_choice": "auto" }), "tool_choice"),
            (json!({ "parallel_tool_calls": true }), "parallel_tool_calls"),
            (json!({ "response_format": { "type": "xml" } }), "response_format.type"),
            (json!({ "response_format": { "type": "json_schema" } }), "response_format.json_schema"),
            (json!({ "response_format": { "type": "json_object" } }), "messages"),
            (json!({ "modalities": ["text", "audio"] }), "modalities"),
        ] {
            assert_eq!(param(&user, more), wanted);
        }
        assert_eq!(read(Protocol::Chat, &json!({ "messages": user })).unwrap_err().0, Some("model".into()));
        assert_eq!(Request::parse(Protocol::Chat, b"{").unwrap_err().status, 400);
        assert!(read(Protocol::Chat, &json!([1])).is_err());
    }

    #[test]
    fn calls_and_results_belong_together() {
        let calling = json!({ "role": "assistant", "tool_calls": [call("a", "t"), call("b", "t")] });
        let result = json!({ "role": "tool", "tool_call_id": "a", "content": "x" });
        let foreign = json!({ "role": "tool", "tool_call_id": "z", "content": "x" });
        let fault = |messages: Value| chat(messages, json!({})).unwrap_err();
        let open = fault(json!([calling, result]));
        assert!(open.2.contains("did not have response messages: b"), "{open:?}");
        let open = fault(json!([calling, result, { "role": "user", "content": "x" }]));
        assert!(open.2.contains("did not have response messages: b"), "{open:?}");
        assert_eq!(fault(json!([calling, foreign])).0, Some("messages[1].tool_call_id".into()));
        assert_eq!(
            fault(json!([{ "role": "user", "content": "x" }, result])).0,
            Some("messages[1].tool_call_id".into())
        );
    }

    #[test]
    fn the_input_of_a_response_is_a_text_or_items() {
        let request = read(Protocol::Responses, &json!({ "model": "m", "input": "hi there", "stream": true })).unwrap();
        assert_eq!((request.user.as_str(), request.delivery), ("hi there", Delivery::StreamWithUsage));
        let input = json!([
            { "role": "user", "content": [{ "type": "input_text", "text": "weather" }] },
            { "type": "function_call", "call_id": "a", "name": "now", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "a", "output": "sun" },
        ]);
        let tools = json!([{ "type": "function", "name": "now", "parameters": {} }]);
        let request = read(Protocol::Responses, &json!({ "model": "m", "input": input, "tools": tools })).unwrap();
        assert_eq!(request.results, [ToolResult { name: "now".into(), text: "sun".into() }]);
        assert_eq!((request.user.as_str(), request.tools), ("weather", vec!["now".to_owned()]));
        let param = |more: Value| read(Protocol::Responses, &more).unwrap_err().0.unwrap();
        assert_eq!(param(json!({ "model": "m" })), "input");
        assert_eq!(param(json!({ "model": "m", "input": "x", "previous_response_id": "r" })), "previous_response_id");
        assert_eq!(param(json!({ "model": "m", "input": [{ "type": "computer_call" }] })), "input[0].type");
    }

    /// Any JSON of few levels, with keys that requests have.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u8>().prop_map(Value::from),
            "user|tool|assistant|function|m|message|".prop_map(Value::from),
        ];
        let key =
            "model|messages|input|role|content|type|text|tools|function|name|tool_calls|id|tool_call_id|stream|stop|n";
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_body_is_a_request_or_an_error(more in any_json(), messages in any_json(), field in "model|stream|stop|tools|x") {
            for protocol in [Protocol::Chat, Protocol::Responses] {
                let body = json!({ "model": "m", "messages": [messages], "input": [messages], field.as_str(): more });
                for body in [&more, &body] {
                    if let Err(error) = Request::parse(protocol, body.to_string().as_bytes()) {
                        prop_assert_eq!(error.status, 400);
                    }
                }
            }
        }
    }
}

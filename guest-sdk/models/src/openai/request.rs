//! The body of a request.

use serde_json::{Map, Value, json};

use crate::{Chat, Message, ResponseFormat, ToolCall, ToolChoice, ToolInfo, ToolResult};

/// The result of a call that has none, because the answer was given up. Servers refuse a call without a result.
const NO_RESULT: &str = "the call was interrupted";

pub(super) fn body(model: &str, chat: &Chat, fields: &Map<String, Value>) -> String {
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("messages".into(), Value::Array(messages(&chat.messages)));
    body.insert("stream".into(), true.into());
    body.insert("stream_options".into(), json!({ "include_usage": true }));
    if !chat.tools.is_empty() {
        body.insert("tools".into(), chat.tools.iter().map(tool).collect());
        if let Some(choice) = tool_choice(&chat.tool_choice) {
            body.insert("tool_choice".into(), choice);
        }
        if let Some(parallel) = chat.parallel_tool_calls {
            body.insert("parallel_tool_calls".into(), parallel.into());
        }
    }
    if let Some(format) = response_format(&chat.response_format) {
        body.insert("response_format".into(), format);
    }
    for (name, value) in fields {
        if value.is_null() {
            body.remove(name);
        } else {
            body.insert(name.clone(), value.clone());
        }
    }
    Value::Object(body).to_string()
}

fn messages(messages: &[Message]) -> Vec<Value> {
    let mut sent = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        match message {
            Message::System(text) => sent.push(json!({ "role": "system", "content": text })),
            Message::User(text) => sent.push(json!({ "role": "user", "content": text })),
            Message::Assistant { text, tool_calls } if tool_calls.is_empty() => {
                sent.push(json!({ "role": "assistant", "content": text }));
            }
            Message::Assistant { text, tool_calls } => {
                let content = if text.is_empty() { Value::Null } else { text.as_str().into() };
                let calls: Vec<Value> = tool_calls.iter().map(tool_call).collect();
                sent.push(json!({ "role": "assistant", "content": content, "tool_calls": calls }));
                // The results come right after their calls, whatever else was said meanwhile.
                let later = messages.get(at..).unwrap_or_default();
                sent.extend(tool_calls.iter().map(|call| result_of(call, later)));
            }
            Message::ToolResult(_) => {}
        }
    }
    sent
}

fn result_of(call: &ToolCall, later: &[Message]) -> Value {
    let result = later.iter().find_map(|message| match message {
        Message::ToolResult(result) if result.call_id == call.id => Some(result),
        _ => None,
    });
    let text = result.map_or(NO_RESULT, |ToolResult { text, .. }| text);
    json!({ "role": "tool", "tool_call_id": call.id, "content": text })
}

fn tool_call(call: &ToolCall) -> Value {
    let function = json!({ "name": call.name, "arguments": call.arguments });
    json!({ "id": call.id, "type": "function", "function": function })
}

fn tool(tool: &ToolInfo) -> Value {
    let mut function = json!({ "name": tool.name, "description": tool.description, "parameters": tool.parameters });
    if let (true, Some(function)) = (tool.strict, function.as_object_mut()) {
        function.insert("strict".into(), true.into());
    }
    json!({ "type": "function", "function": function })
}

fn tool_choice(choice: &ToolChoice) -> Option<Value> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some("none".into()),
        ToolChoice::Required => Some("required".into()),
        ToolChoice::Named(name) => Some(json!({ "type": "function", "function": { "name": name } })),
    }
}

fn response_format(format: &ResponseFormat) -> Option<Value> {
    match format {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => Some(json!({ "type": "json_object" })),
        ResponseFormat::JsonSchema { name, schema } => {
            let schema = json!({ "name": name, "schema": schema, "strict": true });
            Some(json!({ "type": "json_schema", "json_schema": schema }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(chat: &Chat, fields: &[(&str, Value)]) -> Value {
        let fields = fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
        serde_json::from_str(&body("m", chat, &fields)).unwrap()
    }

    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.into(), name: "f".into(), arguments: "{}".into() }
    }

    fn result(id: &str) -> Message {
        Message::ToolResult(ToolResult { call_id: id.into(), name: "f".into(), text: id.into(), is_error: false })
    }

    #[test]
    fn body_has_the_conversation_and_the_fields() {
        let chat = Chat::new("Be brief.").user("hello");
        let body = sent(&chat, &[("temperature", json!(0.5)), ("stream_options", Value::Null), ("model", json!("n"))]);
        let messages = json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "hello" }]);
        assert_eq!(body, json!({ "model": "n", "messages": messages, "stream": true, "temperature": 0.5 }));
    }

    #[test]
    fn each_call_has_its_result_right_after_it() {
        let mut chat = Chat::new("");
        chat.messages = vec![
            Message::Assistant { text: String::new(), tool_calls: vec![call("a"), call("b")] },
            Message::User("wait".into()),
            result("a"),
            result("unknown"),
        ];
        let body = sent(&chat, &[]);
        let messages = body["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 4, "{messages:?}");
        assert_eq!(messages[0]["tool_calls"][1]["id"], "b");
        assert_eq!(messages[0]["content"], Value::Null);
        assert_eq!((&messages[1]["tool_call_id"], &messages[1]["content"]), (&json!("a"), &json!("a")));
        assert_eq!((&messages[2]["tool_call_id"], &messages[2]["content"]), (&json!("b"), &json!(NO_RESULT)));
    }

    #[test]
    fn tools_and_the_form_of_the_answer_are_described() {
        let info = ToolInfo { name: "f".into(), description: "d".into(), parameters: json!({}), strict: true };
        let format = ResponseFormat::JsonSchema { name: "n".into(), schema: json!({ "type": "object" }) };
        let mut chat = Chat { tools: vec![info], ..Chat::new("").response_format(format) };
        chat.tool_choice = ToolChoice::Named("f".into());
        chat.parallel_tool_calls = Some(false);
        let body = sent(&chat, &[]);
        assert_eq!(body["tools"][0]["function"]["strict"], true);
        assert_eq!(body["tool_choice"]["function"]["name"], "f");
        assert_eq!(body["parallel_tool_calls"], false);
        assert_eq!(body["response_format"]["json_schema"]["schema"]["type"], "object");
        chat.tools.clear();
        assert_eq!(sent(&chat, &[])["tool_choice"], Value::Null);
    }
}

//! The body of `POST /v1/chat/completions`. Form: OpenAI's API reference, "Create chat completion".

use serde_json::Value;

use super::checks::{boolean, content, count, format, function_name, missing, model, present, stops};
use super::checks::{unsupported, wrong_kind, wrong_value};
use super::{CallsAllowed, Delivery, Format, Heard, Protocol, Request};
use crate::error::ApiError;

const ROLES: &str = "'system', 'assistant', 'user', 'function', 'tool', and 'developer'";

pub(super) fn read(body: &Value) -> Result<Request, ApiError> {
    let model = model(body)?;
    let messages = match present(body, "messages") {
        None => return Err(missing("messages")),
        Some(Value::Array(messages)) => messages,
        Some(other) => return Err(wrong_kind("messages", "an array of objects", other)),
    };
    if messages.is_empty() {
        let message =
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.";
        return Err(ApiError::invalid(Some("messages"), Some("empty_array"), message.into()));
    }
    if count(body, "n")?.is_some_and(|n| n > 1) {
        return Err(unsupported("n", "more than one choice"));
    }
    let modalities = present(body, "modalities").and_then(Value::as_array);
    if present(body, "audio").is_some() || modalities.is_some_and(|kinds| kinds.iter().any(|kind| kind == "audio")) {
        return Err(unsupported("modalities", "audio"));
    }
    let (heard, format) =
        (heard(messages)?, format(present(body, "response_format"), "response_format", Some("json_schema"))?);
    if format == Format::JsonObject && !names_json(messages) {
        let message =
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.";
        return Err(ApiError::invalid(Some("messages"), None, message.into()));
    }
    let tokens_max = (count(body, "max_completion_tokens")?, count(body, "max_tokens")?);
    let tools = tools(body)?;
    Ok(Request {
        protocol: Protocol::Chat,
        model,
        delivery: delivery(body)?,
        user: heard.user,
        results: heard.results,
        prompt_tokens: heard.words,
        calls: calls_allowed(body, !tools.is_empty())?,
        tools,
        tokens_max: tokens_max.0.or(tokens_max.1),
        stops: stops(body)?,
        format,
    })
}

fn heard(messages: &[Value]) -> Result<Heard, ApiError> {
    let mut heard = Heard::default();
    // The calls whose results have not come.
    let mut open: Vec<&str> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let param = format!("messages[{at}]");
        let role = match message.get("role") {
            Some(Value::String(role)) => role.as_str(),
            Some(other) => return Err(wrong_kind(&format!("{param}.role"), "a string", other)),
            None if !message.is_object() => return Err(wrong_kind(&param, "an object", message)),
            None => return Err(missing(&format!("{param}.role"))),
        };
        if role != "tool" && !open.is_empty() {
            return Err(unanswered(&open));
        }
        let text = || content(message.get("content").unwrap_or(&Value::Null), &format!("{param}.content"));
        match role {
            "system" | "developer" | "function" => heard.count(&text()?),
            "user" => heard.user(text()?),
            "assistant" => {
                let said = present(message, "content").map(|_| text()).transpose()?.unwrap_or_default();
                heard.model(&said);
                open = calls(message, &param, &mut heard)?;
            }
            "tool" => {
                let id_param = format!("{param}.tool_call_id");
                let id = present(message, "tool_call_id").ok_or_else(|| missing(&id_param))?;
                let known =
                    id.as_str().and_then(|id| open.iter().position(|open| *open == id).map(|at| open.remove(at)));
                let text = text()?;
                if known.and_then(|id| heard.result(id, text)).is_none() {
                    let message = "Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'.";
                    return Err(ApiError::invalid(Some(&id_param), None, message.into()));
                }
            }
            other => return Err(wrong_value(&format!("{param}.role"), other, ROLES)),
        }
    }
    if open.is_empty() { Ok(heard) } else { Err(unanswered(&open)) }
}

fn unanswered(open: &[&str]) -> ApiError {
    let message = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. \
         The following tool_call_ids did not have response messages: {}",
        open.join(", ")
    );
    ApiError::invalid(Some("messages"), None, message)
}

/// The ids of the calls of a message, whose names are kept.
fn calls<'a>(message: &'a Value, param: &str, heard: &mut Heard) -> Result<Vec<&'a str>, ApiError> {
    let param = format!("{param}.tool_calls");
    let calls = match present(message, "tool_calls") {
        None => return Ok(Vec::new()),
        Some(Value::Array(calls)) => calls,
        Some(other) => return Err(wrong_kind(&param, "an array of objects", other)),
    };
    let mut ids = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        let id = call.get("id").and_then(Value::as_str).ok_or_else(|| missing(&format!("{param}[{at}].id")))?;
        let function = call.get("function").unwrap_or(&Value::Null);
        let name = function.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| missing(&format!("{param}[{at}].function.name")))?;
        heard.count(function.get("arguments").and_then(Value::as_str).unwrap_or_default());
        heard.calls.push((id.to_owned(), name.to_owned()));
        ids.push(id);
    }
    Ok(ids)
}

fn names_json(messages: &[Value]) -> bool {
    let texts = messages.iter().filter_map(|message| content(message.get("content")?, "").ok());
    texts.into_iter().any(|text| text.to_lowercase().contains("json"))
}

fn delivery(body: &Value) -> Result<Delivery, ApiError> {
    let is_stream = boolean(body, "stream")?.unwrap_or(false);
    let Some(options) = present(body, "stream_options") else {
        return Ok(if is_stream { Delivery::Stream } else { Delivery::Whole });
    };
    if !is_stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(ApiError::invalid(Some("stream_options"), None, message.into()));
    }
    let wants_usage = boolean(options, "include_usage")?.unwrap_or(false);
    Ok(if wants_usage { Delivery::StreamWithUsage } else { Delivery::Stream })
}

fn tools(body: &Value) -> Result<Vec<String>, ApiError> {
    let tools = match present(body, "tools") {
        None => return Ok(Vec::new()),
        Some(Value::Array(tools)) => tools,
        Some(other) => return Err(wrong_kind("tools", "an array of objects", other)),
    };
    let name = |(at, tool): (usize, &Value)| {
        let kind = tool.get("type").ok_or_else(|| missing(&format!("tools[{at}].type")))?;
        match kind.as_str() {
            Some("function") => {
                let name = tool.get("function").and_then(|function| function.get("name"));
                function_name(name, &format!("tools[{at}].function.name"))
            }
            other => Err(wrong_value(&format!("tools[{at}].type"), other.unwrap_or_default(), "'function'")),
        }
    };
    tools.iter().enumerate().map(name).collect()
}

fn calls_allowed(body: &Value, has_tools: bool) -> Result<CallsAllowed, ApiError> {
    for param in ["tool_choice", "parallel_tool_calls"] {
        if present(body, param).is_some() && !has_tools {
            let message = format!("Invalid value for '{param}': '{param}' is only allowed when 'tools' are specified.");
            return Err(ApiError::invalid(Some(param), None, message));
        }
    }
    if body.get("tool_choice").is_some_and(|choice| choice == "none") {
        return Ok(CallsAllowed::None);
    }
    let is_parallel = boolean(body, "parallel_tool_calls")?.unwrap_or(true);
    Ok(if is_parallel { CallsAllowed::Parallel } else { CallsAllowed::One })
}

//! The body of `POST /v1/responses`, in its simplest form. Form: OpenAI's API reference, "Create a model response".
//!
//! Left out and refused: stored conversations (`previous_response_id`, `conversation`, `prompt`), background responses, and tools
//! of the server.

use serde_json::Value;

use super::checks::{boolean, content, count, format, function_name, missing, model, present};
use super::checks::{unsupported, wrong_kind, wrong_value};
use super::{CallsAllowed, Delivery, Heard, Protocol, Request};
use crate::error::ApiError;

const ITEMS: &str = "'message', 'function_call', 'function_call_output', and 'reasoning'";

pub(super) fn read(body: &Value) -> Result<Request, ApiError> {
    let model = model(body)?;
    for (param, what) in [
        ("previous_response_id", "stored responses"),
        ("conversation", "stored conversations"),
        ("prompt", "stored prompts"),
    ] {
        if present(body, param).is_some() {
            return Err(unsupported(param, what));
        }
    }
    if boolean(body, "background")?.unwrap_or(false) {
        return Err(unsupported("background", "background responses"));
    }
    let mut heard = Heard::default();
    if let Some(instructions) = present(body, "instructions") {
        heard.count(&content(instructions, "instructions")?);
    }
    match present(body, "input") {
        None => return Err(missing("input")),
        Some(Value::String(text)) => heard.user(text.clone()),
        Some(Value::Array(items)) => items.iter().enumerate().try_for_each(|(at, item)| hear(item, at, &mut heard))?,
        Some(other) => return Err(wrong_kind("input", "a string or an array of objects", other)),
    }
    let tools = tools(body)?;
    let is_stream = boolean(body, "stream")?.unwrap_or(false);
    let has_parallel = boolean(body, "parallel_tool_calls")?.unwrap_or(true);
    let calls = match body.get("tool_choice") {
        Some(choice) if choice == "none" => CallsAllowed::None,
        _ if has_parallel => CallsAllowed::Parallel,
        _ => CallsAllowed::One,
    };
    Ok(Request {
        protocol: Protocol::Responses,
        model,
        delivery: if is_stream { Delivery::StreamWithUsage } else { Delivery::Whole },
        user: heard.user,
        results: heard.results,
        prompt_tokens: heard.words,
        tools,
        calls,
        tokens_max: count(body, "max_output_tokens")?,
        stops: Vec::new(),
        format: format(present(body, "text").and_then(|text| present(text, "format")), "text.format", None)?,
    })
}

fn hear(item: &Value, at: usize, heard: &mut Heard) -> Result<(), ApiError> {
    let param = format!("input[{at}]");
    let text = |field: &str| {
        let param = format!("{param}.{field}");
        content(item.get(field).ok_or_else(|| missing(&param))?, &param)
    };
    match item.get("type").map_or(Some("message"), Value::as_str) {
        Some("message") => match item.get("role").and_then(Value::as_str) {
            Some("user") => heard.user(text("content")?),
            Some("assistant") => heard.model(&text("content")?),
            Some("system" | "developer") => heard.count(&text("content")?),
            other => {
                let roles = "'assistant', 'system', 'developer', and 'user'";
                return Err(wrong_value(&format!("{param}.role"), other.unwrap_or_default(), roles));
            }
        },
        Some("function_call") => {
            heard.model(&text("arguments")?);
            heard.calls.push((text("call_id")?, text("name")?));
        }
        Some("function_call_output") => {
            let (id, output) = (text("call_id")?, text("output")?);
            if heard.result(&id, output).is_none() {
                let message = format!("No tool call found for function call output with call_id {id}.");
                return Err(ApiError::invalid(Some("input"), None, message));
            }
        }
        Some("reasoning") => {}
        other => return Err(wrong_value(&format!("{param}.type"), other.unwrap_or_default(), ITEMS)),
    }
    Ok(())
}

fn tools(body: &Value) -> Result<Vec<String>, ApiError> {
    let tools = match present(body, "tools") {
        None => return Ok(Vec::new()),
        Some(Value::Array(tools)) => tools,
        Some(other) => return Err(wrong_kind("tools", "an array of objects", other)),
    };
    let name = |(at, tool): (usize, &Value)| match tool.get("type").and_then(Value::as_str) {
        Some("function") => function_name(tool.get("name"), &format!("tools[{at}].name")),
        _ => Err(unsupported(&format!("tools[{at}].type"), "tools of its own")),
    };
    tools.iter().enumerate().map(name).collect()
}

//! Values of a request, and the vendor's errors about them.

use serde_json::Value;

use crate::error::{ApiError, kind_of};
use crate::request::Format;

/// Most texts at which an answer ends.
const STOPS_MAX: usize = 4;
/// Longest name of a tool, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The value of a field, where it is neither missing nor null.
pub(super) fn present<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get(field).filter(|value| !value.is_null())
}

pub(super) fn missing(param: &str) -> ApiError {
    ApiError::invalid(
        Some(param),
        Some("missing_required_parameter"),
        format!("Missing required parameter: '{param}'."),
    )
}

pub(super) fn wrong_kind(param: &str, wanted: &str, got: &Value) -> ApiError {
    let message = format!("Invalid type for '{param}': expected {wanted}, but got {} instead.", kind_of(got));
    ApiError::invalid(Some(param), Some("invalid_type"), message)
}

pub(super) fn wrong_value(param: &str, got: &str, supported: &str) -> ApiError {
    let message = format!("Invalid value: '{got}'. Supported values are: {supported}.");
    ApiError::invalid(Some(param), Some("invalid_value"), message)
}

pub(super) fn unsupported(param: &str, what: &str) -> ApiError {
    let message =
        format!("Unsupported parameter: '{param}'. This is a stand-in for a model server, and it has not {what}.");
    ApiError::invalid(Some(param), Some("unsupported_parameter"), message)
}

/// The name of the model.
pub(super) fn model(body: &Value) -> Result<String, ApiError> {
    if !body.is_object() {
        return Err(ApiError::invalid(
            None,
            None,
            format!("Invalid body: expected an object, but got {}.", kind_of(body)),
        ));
    }
    match present(body, "model") {
        None => Err(ApiError::invalid(Some("model"), None, "you must provide a model parameter".into())),
        Some(Value::String(model)) => Ok(model.clone()),
        Some(other) => Err(wrong_kind("model", "a string", other)),
    }
}

pub(super) fn boolean(body: &Value, param: &str) -> Result<Option<bool>, ApiError> {
    let Some(value) = present(body, param) else { return Ok(None) };
    value.as_bool().map(Some).ok_or_else(|| wrong_kind(param, "a boolean", value))
}

/// A number from 1.
pub(super) fn count(body: &Value, param: &str) -> Result<Option<u64>, ApiError> {
    let Some(value) = present(body, param) else { return Ok(None) };
    let number = value.as_u64().ok_or_else(|| wrong_kind(param, "a whole number", value))?;
    if number == 0 {
        let message =
            format!("Invalid '{param}': integer below minimum value. Expected a value >= 1, but got 0 instead.");
        return Err(ApiError::invalid(Some(param), Some("integer_below_min_value"), message));
    }
    Ok(Some(number))
}

pub(super) fn stops(body: &Value) -> Result<Vec<String>, ApiError> {
    let wrong = |got: &Value| wrong_kind("stop", "a string or an array of strings", got);
    match present(body, "stop") {
        None => Ok(Vec::new()),
        Some(Value::String(stop)) => Ok(vec![stop.clone()]),
        Some(Value::Array(stops)) if stops.len() > STOPS_MAX => {
            let message =
                format!("Invalid 'stop': array too long. Expected at most {STOPS_MAX} items, but got {}.", stops.len());
            Err(ApiError::invalid(Some("stop"), Some("array_above_max_length"), message))
        }
        Some(Value::Array(stops)) => {
            stops.iter().map(|stop| stop.as_str().map(str::to_owned).ok_or_else(|| wrong(stop))).collect()
        }
        Some(other) => Err(wrong(other)),
    }
}

/// The name of a function: letters, digits, `_` and `-`.
pub(super) fn function_name(value: Option<&Value>, param: &str) -> Result<String, ApiError> {
    let value = value.ok_or_else(|| missing(param))?;
    let name = value.as_str().ok_or_else(|| wrong_kind(param, "a string", value))?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(fits) {
        let pattern = format!("'^[a-zA-Z0-9_-]{{1,{NAME_BYTES_MAX}}}$'");
        let message = format!(
            "Invalid '{param}': string does not match pattern. Expected a string that matches the pattern {pattern}."
        );
        return Err(ApiError::invalid(Some(param), Some("invalid_value"), message));
    }
    Ok(name.to_owned())
}

/// The text of a content: a text, or the texts of its parts. Pictures, sounds and files have no words.
pub(super) fn content(value: &Value, param: &str) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let text = |(at, part): (usize, &Value)| match (part.get("type"), part.get("text"), part.get("refusal")) {
                (None, ..) => Err(missing(&format!("{param}[{at}].type"))),
                (_, Some(Value::String(text)), _) | (_, _, Some(Value::String(text))) => Ok(text.clone()),
                _ => Ok(String::new()),
            };
            parts.iter().enumerate().map(text).collect()
        }
        other => Err(wrong_kind(param, "a string or an array of objects", other)),
    }
}

/// The form of the text that `format` describes. `schema_of` finds the object with the schema.
pub(super) fn format(format: Option<&Value>, param: &str, schema_key: Option<&str>) -> Result<Format, ApiError> {
    let Some(format) = format else { return Ok(Format::Text) };
    let kind_param = format!("{param}.type");
    match format.get("type") {
        None => Err(missing(&kind_param)),
        Some(Value::String(kind)) => match kind.as_str() {
            "text" => Ok(Format::Text),
            "json_object" => Ok(Format::JsonObject),
            "json_schema" => {
                let (holder, param) = match schema_key {
                    Some(key) => {
                        let param = format!("{param}.{key}");
                        (present(format, key).ok_or_else(|| missing(&param))?, param)
                    }
                    None => (format, param.to_owned()),
                };
                present(holder, "name").ok_or_else(|| missing(&format!("{param}.name")))?;
                Ok(Format::JsonSchema(holder.get("schema").cloned().unwrap_or(Value::Null)))
            }
            other => Err(wrong_value(&kind_param, other, "'json_object', 'json_schema', and 'text'")),
        },
        Some(other) => Err(wrong_kind(&kind_param, "a string", other)),
    }
}

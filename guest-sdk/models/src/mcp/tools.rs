//! Definitions of tools and results of calls. Pure.

use serde_json::{Value, json};

use super::McpError;
use super::headers::{self, Mirrored};

/// Number of bytes of a name or a description.
const NAME_BYTES_MAX: usize = 128;
const DESCRIPTION_BYTES_MAX: usize = 16 << 10;
/// Number of characters of a name for a model: the bound of OpenAI.
const MODEL_NAME_MAX: usize = 64;

/// A tool, as its server describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) schema: Value,
    pub(super) mirrored: Vec<Mirrored>,
}

/// The tools of one page. `is_modern`: the version of the protocol has headers for arguments.
pub(super) fn read(page: &Value, is_modern: bool) -> Result<Vec<Definition>, McpError> {
    let tools = page.get("tools").and_then(Value::as_array);
    let tools = tools.ok_or_else(|| McpError::Invalid("its list has no `tools`".into()))?;
    let mut definitions = Vec::new();
    for tool in tools {
        match definition(tool, is_modern) {
            Ok(definition) => definitions.push(definition),
            Err(why) => {
                let name = tool.get("name").unwrap_or(&Value::Null);
                log::warn!("a tool is left out: {why}: {name:.128}");
            }
        }
    }
    Ok(definitions)
}

fn definition(tool: &Value, is_modern: bool) -> Result<Definition, String> {
    let text = |name: &str| tool.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = text("name").filter(|name| name.len() <= NAME_BYTES_MAX).ok_or("it has no name, or a long one")?;
    let schema = tool.get("inputSchema").filter(|schema| schema.is_object()).ok_or("it has no `inputSchema`")?;
    let mirrored = if is_modern { headers::mirrored(schema)? } else { Vec::new() };
    let mut description = text("description").or_else(|| text("title")).unwrap_or(name).to_owned();
    description.truncate(description.floor_char_boundary(DESCRIPTION_BYTES_MAX));
    Ok(Definition { name: name.to_owned(), description, schema: schema.clone(), mirrored })
}

/// The name by which a model calls a tool: other letters than models have become `_`, and it differs from those that are
/// `taken`.
pub(super) fn name_for_model(prefix: &str, name: &str, taken: &[String]) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    let mut wanted: String = prefix.chars().chain(name.chars()).map(letter).collect();
    wanted.truncate(MODEL_NAME_MAX);
    let mut name = wanted.clone();
    let mut number = 1;
    while taken.contains(&name) {
        number += 1;
        let suffix = format!("_{number}");
        wanted.truncate(MODEL_NAME_MAX - suffix.len());
        name = format!("{wanted}{suffix}");
    }
    name
}

/// The result of a call, as text for the model.
pub(super) fn result(result: &Value) -> Result<String, McpError> {
    match result.get("resultType").and_then(Value::as_str) {
        None | Some("complete") => {}
        Some("input_required") => return Err(McpError::Tool("the tool asks the user, and nobody can answer".into())),
        Some(other) => return Err(McpError::Invalid(format!("a result of the type `{other:.64}`"))),
    }
    let content = result.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut text = content.iter().map(part).collect::<Vec<_>>().join("\n");
    if text.is_empty()
        && let Some(structured) = result.get("structuredContent")
    {
        text = structured.to_string();
    }
    if result.get("isError").and_then(Value::as_bool) == Some(true) { Err(McpError::Tool(text)) } else { Ok(text) }
}

/// A part of a result. What is no text is only named.
fn part(part: &Value) -> String {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let resource = part.get("resource").unwrap_or(&Value::Null);
    match text(part, "type").as_str() {
        "text" => text(part, "text"),
        "resource" if resource.get("text").is_some() => text(resource, "text"),
        "resource" => format!("[resource {}, {}]", text(resource, "uri"), text(resource, "mimeType")),
        "resource_link" => format!("[resource {}: {}]", text(part, "name"), text(part, "uri")),
        kind => format!("[{kind:.32} {}]", text(part, "mimeType")),
    }
}

/// The fields of each request that a version without sessions wants.
pub(super) fn meta(version: &str) -> Value {
    let client = json!({ "name": "wasm-worker", "version": env!("CARGO_PKG_VERSION") });
    json!({
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientInfo": client,
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_against_the_protocol_are_left_out() {
        let schema = json!({ "type": "object" });
        let bad = json!({ "properties": { "a": { "type": "number", "x-mcp-header": "A" } } });
        let page = json!({ "tools": [
            { "name": "good", "description": "does good", "inputSchema": schema },
            { "name": "plain", "title": "Plain", "inputSchema": schema },
            { "name": "none" },
            { "name": "null", "inputSchema": null },
            { "inputSchema": schema },
            { "name": "n".repeat(129), "inputSchema": schema },
            { "name": "annotated", "inputSchema": bad },
            7,
        ] });
        let names = |is_modern| -> Vec<String> {
            read(&page, is_modern)
                .unwrap()
                .into_iter()
                .map(|tool| format!("{}: {}", tool.name, tool.description))
                .collect()
        };
        assert_eq!(names(true), ["good: does good", "plain: Plain"]);
        assert_eq!(names(false).last().map(String::as_str), Some("annotated: annotated"));
        assert!(read(&json!({}), true).is_err());
    }

    #[test]
    fn names_for_models_have_their_letters_and_differ() {
        assert_eq!(name_for_model("", "admin.tools.list", &[]), "admin_tools_list");
        assert_eq!(name_for_model("shop.", "ü-1", &[]), "shop__-1");
        let long = "n".repeat(100);
        let first = name_for_model("", &long, &[]);
        let second = name_for_model("", &long, std::slice::from_ref(&first));
        assert_eq!((first.len(), second.len()), (64, 64));
        assert!(second.ends_with("n_2"));
        let third = name_for_model("", &long, &[first, second]);
        assert!(third.ends_with("n_3"));
    }

    #[test]
    fn result_is_the_text_of_its_parts() {
        let parts = json!({ "content": [
            { "type": "text", "text": "a" },
            { "type": "image", "data": "AAAA", "mimeType": "image/png" },
            { "type": "resource", "resource": { "uri": "file:///x", "text": "b" } },
            { "type": "resource", "resource": { "uri": "file:///y", "blob": "AA", "mimeType": "x/y" } },
            { "type": "resource_link", "uri": "file:///z", "name": "z" },
            {},
        ] });
        let wanted = "a\n[image image/png]\nb\n[resource file:///y, x/y]\n[resource z: file:///z]\n[ ]";
        assert_eq!(result(&parts).unwrap(), wanted);
        assert_eq!(result(&json!({ "content": [], "structuredContent": { "x": 1 } })).unwrap(), r#"{"x":1}"#);
        assert_eq!(result(&json!({})).unwrap(), "");
        let failed =
            json!({ "resultType": "complete", "isError": true, "content": [{ "type": "text", "text": "no" }] });
        assert!(matches!(result(&failed), Err(McpError::Tool(text)) if text == "no"));
        assert!(matches!(result(&json!({ "resultType": "input_required" })), Err(McpError::Tool(_))));
        assert!(matches!(result(&json!({ "resultType": "later" })), Err(McpError::Invalid(_))));
    }
}

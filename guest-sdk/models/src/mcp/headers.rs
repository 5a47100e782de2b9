//! Arguments of tools that are repeated in headers, as version 2026-07-28 wants it (`x-mcp-header`). Pure.

use serde_json::Value;

const ANNOTATION: &str = "x-mcp-header";
/// Keywords whose values are examples of arguments and no schemas.
const VALUES: [&str; 4] = ["default", "enum", "const", "examples"];
/// Bound of the nesting. `serde_json` has one too.
const DEPTH_MAX: usize = 128;

/// An argument and the header that repeats it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirrored {
    /// The names of the properties, from the outside in.
    path: Vec<String>,
    header: String,
}

/// The arguments that this schema has repeated. An error says why the definition is against the protocol.
pub(super) fn mirrored(schema: &Value) -> Result<Vec<Mirrored>, String> {
    let mut found = Vec::new();
    walk(schema, &mut Vec::new(), &mut found)?;
    for (at, one) in found.iter().enumerate() {
        if found.iter().take(at).any(|other: &Mirrored| other.header.eq_ignore_ascii_case(&one.header)) {
            return Err(format!("the header `{}` is there twice", one.header));
        }
    }
    Ok(found)
}

fn walk(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Mirrored>) -> Result<(), String> {
    let Some(fields) = schema.as_object() else { return Ok(()) };
    for (keyword, value) in fields {
        match keyword.as_str() {
            ANNOTATION => found.push(annotation(schema, value, path)?),
            "properties" => {
                for (name, property) in value.as_object().into_iter().flatten() {
                    path.push(name.clone());
                    walk(property, path, found)?;
                    path.pop();
                }
            }
            keyword if VALUES.contains(&keyword) => {}
            _ if has_annotation(value, 0) => return Err(format!("`{ANNOTATION}` in `{keyword}`")),
            _ => {}
        }
    }
    Ok(())
}

fn annotation(schema: &Value, name: &Value, path: &[String]) -> Result<Mirrored, String> {
    let name = name.as_str().filter(|name| is_token(name)).ok_or("the name of a header is no token")?;
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    if path.is_empty() || !matches!(kind, "string" | "integer" | "boolean") {
        return Err(format!("the header `{name}` is of no text, integer or boolean"));
    }
    Ok(Mirrored { path: path.to_vec(), header: format!("Mcp-Param-{name}") })
}

fn has_annotation(value: &Value, depth: usize) -> bool {
    match value {
        Value::Object(fields) => {
            let within = |(keyword, value): (&String, &Value)| {
                keyword == ANNOTATION
                    || (depth < DEPTH_MAX && !VALUES.contains(&keyword.as_str()) && has_annotation(value, depth + 1))
            };
            fields.iter().any(within)
        }
        Value::Array(values) => depth < DEPTH_MAX && values.iter().any(|value| has_annotation(value, depth + 1)),
        _ => false,
    }
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The headers that repeat these arguments.
pub(super) fn of(mirrored: &[Mirrored], arguments: &Value) -> Vec<(String, String)> {
    let header = |one: &Mirrored| {
        let value = one.path.iter().try_fold(arguments, |value, name| value.get(name))?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => integer.to_string(),
                None => number.as_f64().filter(|number| number.fract() == 0.0).map(|number| format!("{number:.0}"))?,
            },
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((one.header.clone(), encoded(&text)))
    };
    mirrored.iter().filter_map(header).collect()
}

/// A text as the value of a header: as it is, or in Base64 between marks.
pub(super) fn encoded(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
        && text.trim_matches([' ', '\t']) == text
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    if is_plain { text.to_owned() } else { format!("=?base64?{}?=", base64(text.as_bytes())) }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| LETTERS.get(bits as usize & 63).map_or('=', |letter| char::from(*letter));
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            text.push(if at > group.len() { '=' } else { letter(bits >> (18 - 6 * at)) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_headers_are_encoded_as_in_the_specification() {
        assert_eq!(encoded("us-west1"), "us-west1");
        assert_eq!(encoded("Hello, 世界"), "=?base64?SGVsbG8sIOS4lueVjA==?=");
        assert_eq!(encoded(" padded "), "=?base64?IHBhZGRlZCA=?=");
        assert_eq!(encoded("line1\nline2"), "=?base64?bGluZTEKbGluZTI=?=");
        assert_eq!(encoded("=?base64?literal?="), "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=");
        assert_eq!(encoded(""), "");
        let texts: Vec<String> = (0..5).map(|len| base64(&b"\xff\xee\xdd\xcc"[..len])).collect();
        assert_eq!(texts, ["", "/w==", "/+4=", "/+7d", "/+7dzA=="]);
    }

    #[test]
    fn annotated_arguments_are_repeated() {
        let schema = json!({ "type": "object", "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "page": { "type": "object", "properties": { "size": { "type": "integer", "x-mcp-header": "Size" } } },
            "dry": { "type": "boolean", "x-mcp-header": "Dry" },
            "x-mcp-header": { "type": "string" },
            "query": { "type": "string", "default": { "x-mcp-header": 1 } },
        } });
        let mirrored = mirrored(&schema).unwrap();
        let headers = |arguments| {
            let mut headers: Vec<String> =
                of(&mirrored, &arguments).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            headers.sort();
            headers
        };
        let arguments = json!({ "region": "ü", "page": { "size": 42.0 }, "dry": true, "query": "x" });
        let wanted = ["Mcp-Param-Dry=true", "Mcp-Param-Region==?base64?w7w=?=", "Mcp-Param-Size=42"];
        assert_eq!(headers(arguments), wanted);
        assert!(headers(json!({ "region": null, "page": 7, "dry": [] })).is_empty());
    }

    #[test]
    fn annotations_in_wrong_places_are_refused() {
        let property = |schema| json!({ "type": "object", "properties": { "a": schema } });
        let annotated = json!({ "type": "string", "x-mcp-header": "A" });
        for schema in [
            property(json!({ "type": "number", "x-mcp-header": "A" })),
            property(json!({ "type": "string", "x-mcp-header": "" })),
            property(json!({ "type": "string", "x-mcp-header": "A\r\nB" })),
            property(json!({ "type": "string", "x-mcp-header": 7 })),
            property(json!({ "type": "array", "items": annotated })),
            property(json!({ "anyOf": [annotated] })),
            json!({ "type": "string", "x-mcp-header": "A" }),
            json!({ "$defs": { "a": annotated } }),
            json!({ "properties": { "a": annotated, "b": { "type": "string", "x-mcp-header": "a" } } }),
        ] {
            assert!(mirrored(&schema).is_err(), "{schema}");
        }
        assert_eq!(mirrored(&json!(null)), Ok(Vec::new()));
    }
}

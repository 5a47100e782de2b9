//! A value that a JSON schema allows, for clients that want structured answers. Pure.
//!
//! Known are the keywords that the vendor's structured outputs allow: `type`, `properties`, `items` (the list is empty unless it has
//! `minItems`), `enum`, `const`, `anyOf`, `oneOf`, `allOf`, `$ref` to `#/…`, `minimum`. Ranges and patterns of texts are not heeded.
//!
//! Bounds: [`DEPTH_MAX`] levels and [`VALUES_MAX`] values; what lies beyond is null.

use serde_json::{Map, Value, json};

/// Most levels of a value.
const DEPTH_MAX: usize = 16;
/// Most values.
const VALUES_MAX: usize = 1_000;

/// A value for a schema, with this text in the place of each text.
pub(super) fn of(schema: &Value, text: &str) -> Value {
    Maker { root: schema, text, values: 0 }.value(schema, 0)
}

struct Maker<'a> {
    root: &'a Value,
    text: &'a str,
    values: usize,
}

impl Maker<'_> {
    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        self.values += 1;
        if depth >= DEPTH_MAX || self.values > VALUES_MAX {
            return Value::Null;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or(Value::Null, |target| self.value(target, depth + 1));
        }
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        for (keyword, several) in [
            ("enum", schema.get("enum")),
            ("anyOf", schema.get("anyOf")),
            ("oneOf", schema.get("oneOf")),
            ("allOf", schema.get("allOf")),
        ] {
            match several.and_then(Value::as_array).and_then(|several| several.first()) {
                Some(first) if keyword == "enum" => return first.clone(),
                Some(first) => return self.value(first, depth + 1),
                None => {}
            }
        }
        self.of_type(schema, depth)
    }

    fn of_type(&mut self, schema: &Value, depth: usize) -> Value {
        let named = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
            other => other.and_then(Value::as_str),
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        match named.or(properties.map(|_| "object")) {
            Some("object") => self.object(properties, depth),
            Some("array") => {
                let (items, least) = (schema.get("items"), schema.get("minItems").and_then(Value::as_u64).unwrap_or(0));
                let item = items.unwrap_or(&Value::Null);
                (0..least.min(VALUES_MAX as u64)).map(|_| self.value(item, depth + 1)).collect()
            }
            Some("integer" | "number") => {
                schema.get("minimum").filter(|least| least.is_number()).cloned().unwrap_or(json!(0))
            }
            Some("boolean") => Value::Bool(false),
            Some("null") => Value::Null,
            _ => Value::String(self.text.to_owned()),
        }
    }

    fn object(&mut self, properties: Option<&Map<String, Value>>, depth: usize) -> Value {
        let Some(properties) = properties else { return json!({}) };
        properties.iter().map(|(name, schema)| (name.clone(), self.value(schema, depth + 1))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_a_value() {
        let schema = json!({
            "type": "object",
            "properties": {
                "text": { "type": "string" },
                "size": { "type": "integer", "minimum": 3 },
                "kind": { "enum": ["a", "b"] },
                "list": { "type": "array", "items": { "type": "boolean" }, "minItems": 2 },
                "maybe": { "anyOf": [{ "type": "null" }, { "type": "string" }] },
                "other": { "$ref": "#/$defs/other" },
                "open": { "type": ["number", "null"] },
            },
            "$defs": { "other": { "properties": { "one": { "const": 1 } } } },
        });
        let wanted = json!({
            "text": "hi", "size": 3, "kind": "a", "list": [false, false], "maybe": null, "other": { "one": 1 }, "open": 0
        });
        assert_eq!(of(&schema, "hi"), wanted);
    }

    #[test]
    fn endless_schemas_have_bounded_values() {
        let endless = json!({ "type": "object", "properties": { "a": { "$ref": "#" }, "b": { "$ref": "#" } } });
        assert!(of(&endless, "").to_string().len() < 20 * VALUES_MAX);
        let wide = json!({ "type": "array", "items": { "$ref": "#" }, "minItems": u64::MAX });
        assert!(of(&wide, "").to_string().len() < 20 * VALUES_MAX * DEPTH_MAX);
        assert_eq!(of(&json!({ "$ref": "#/missing" }), ""), Value::Null);
    }
}

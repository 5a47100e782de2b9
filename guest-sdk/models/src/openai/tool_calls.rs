//! Tool calls that come in pieces, several at once, with or without numbers and ids.

use serde_json::Value;

use crate::{ChatError, ToolCall};

/// Number of calls of one answer.
const CALLS_MAX: usize = 64;
/// Number of bytes of a name or an id.
const NAME_BYTES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct ToolCalls(Vec<Gathered>);

#[derive(Debug, Default)]
struct Gathered {
    /// The number that the server gave the call, if it did.
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl ToolCalls {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one piece. Returns the number of bytes of its arguments.
    pub(super) fn add(&mut self, piece: &Value) -> Result<usize, ChatError> {
        let function = piece.get("function").unwrap_or(&Value::Null);
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let (id, name) = (text(piece.get("id")), text(function.get("name")));
        let arguments = match function.get("arguments") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            // Some servers send the object itself.
            Some(object) => object.to_string(),
        };
        if id.len() > NAME_BYTES_MAX || name.len() > NAME_BYTES_MAX {
            return Err(ChatError::TooLarge("the name or the id of a tool call".into()));
        }
        let index = piece.get("index").and_then(Value::as_u64);
        let at = self.find(index, &id, &name);
        if at.is_none() && self.0.len() == CALLS_MAX {
            return Err(ChatError::TooLarge(format!("it has more than {CALLS_MAX} tool calls")));
        }
        let call = match at {
            Some(at) => self.0.get_mut(at),
            None => Some(self.0.push_mut(Gathered { index, ..Gathered::default() })),
        };
        let Some(call) = call else { return Ok(0) };
        if call.id.is_empty() {
            call.id = id;
        }
        call.add_name(&name)?;
        call.arguments.push_str(&arguments);
        Ok(arguments.len())
    }

    /// The call that a piece belongs to; `None`: a new one.
    fn find(&self, index: Option<u64>, id: &str, name: &str) -> Option<usize> {
        let is_other = |call: &Gathered| !id.is_empty() && !call.id.is_empty() && call.id != id;
        if index.is_some() {
            // The last one with this number. Gemini numbers all calls 0, and they differ by their ids.
            let at = self.0.iter().rposition(|call| call.index == index)?;
            return self.0.get(at).filter(|call| !is_other(call)).map(|_| at);
        }
        if !id.is_empty() {
            return self.0.iter().rposition(|call| call.id == id);
        }
        // Without number and id: the last call goes on, unless it is whole and a name begins another one.
        let last = self.0.last()?;
        let is_new = !name.is_empty() && !last.name.is_empty() && (last.is_whole() || last.name != name);
        (!is_new).then_some(self.0.len() - 1)
    }

    /// The calls, each with an id of its own and with arguments.
    pub(super) fn finish(self) -> Vec<ToolCall> {
        let mut calls: Vec<ToolCall> = Vec::new();
        for (number, call) in self.0.into_iter().enumerate() {
            let is_used = |id: &str| id.is_empty() || calls.iter().any(|other| other.id == id);
            let mut id = call.id;
            let mut suffix = number;
            while is_used(&id) {
                id = format!("call_{suffix}");
                suffix += CALLS_MAX;
            }
            let arguments = if call.arguments.trim().is_empty() { "{}".into() } else { call.arguments };
            calls.push(ToolCall { id, name: call.name, arguments });
        }
        calls
    }
}

impl Gathered {
    /// Most servers send the name once, some with every piece, a few in pieces.
    fn add_name(&mut self, name: &str) -> Result<(), ChatError> {
        if self.name.is_empty() || (self.name != name && self.arguments.is_empty()) {
            self.name.push_str(name);
        }
        if self.name.len() > NAME_BYTES_MAX {
            return Err(ChatError::TooLarge("the name of a tool call".into()));
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        serde_json::from_str::<Value>(&self.arguments).is_ok_and(|value| value.is_object())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The calls of these pieces, as `id name arguments`.
    fn gathered(pieces: &[Value]) -> Vec<String> {
        let mut calls = ToolCalls::default();
        for piece in pieces {
            calls.add(piece).unwrap();
        }
        calls.finish().into_iter().map(|call| format!("{} {} {}", call.id, call.name, call.arguments)).collect()
    }

    fn piece(index: Option<u64>, id: &str, name: &str, arguments: &str) -> Value {
        json!({ "index": index, "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
    }

    #[test]
    fn parallel_calls_come_in_mixed_pieces() {
        let pieces = [
            piece(Some(0), "a", "f", ""),
            piece(Some(1), "b", "g", ""),
            json!({ "index": 1, "function": { "arguments": "{\"y\":" } }),
            json!({ "index": 0, "function": { "arguments": "{\"x\":1}" } }),
            json!({ "index": 1, "id": null, "function": { "name": null, "arguments": "2}" } }),
        ];
        assert_eq!(gathered(&pieces), [r#"a f {"x":1}"#, r#"b g {"y":2}"#]);
    }

    #[test]
    fn ids_and_names_are_repeated_with_each_piece() {
        let pieces = [piece(Some(0), "a", "f", "{\"x\""), piece(Some(0), "a", "f", ":1}")];
        assert_eq!(gathered(&pieces), [r#"a f {"x":1}"#]);
        let pieces = [piece(None, "a", "f", "{\"x\""), piece(None, "a", "f", ":1}"), piece(None, "b", "f", "{}")];
        assert_eq!(gathered(&pieces), [r#"a f {"x":1}"#, "b f {}"]);
    }

    #[test]
    fn calls_without_numbers_are_told_apart() {
        assert_eq!(gathered(&[piece(None, "a", "f", "{}"), piece(None, "b", "f", "{}")]), ["a f {}", "b f {}"]);
        // All have the number 0.
        let pieces = [piece(Some(0), "a", "f", "{}"), piece(Some(0), "b", "g", "{}"), piece(Some(0), "b", "", " ")];
        assert_eq!(gathered(&pieces), ["a f {}", "b g {} "]);
        // No ids either: whole calls, then one in pieces.
        let pieces = [piece(None, "", "f", "{}"), piece(None, "", "f", "{\"x\":"), piece(None, "", "", "1}")];
        assert_eq!(gathered(&pieces), ["call_0 f {}", r#"call_1 f {"x":1}"#]);
    }

    #[test]
    fn ids_become_different_and_arguments_an_object() {
        let pieces =
            [piece(Some(0), "call_1", "f", ""), piece(Some(1), "call_1", "g", ""), piece(Some(2), "", "h", "")];
        assert_eq!(gathered(&pieces), ["call_1 f {}", "call_65 g {}", "call_2 h {}"]);
        let object = json!({ "function": { "name": "f", "arguments": { "x": 1 } } });
        assert_eq!(gathered(&[object]), [r#"call_0 f {"x":1}"#]);
    }

    #[test]
    fn name_in_pieces_is_put_together() {
        let pieces = [piece(Some(0), "a", "get_", ""), piece(Some(0), "", "weather", ""), piece(Some(0), "", "", "{}")];
        assert_eq!(gathered(&pieces), ["a get_weather {}"]);
    }

    #[test]
    fn pieces_of_any_form_are_bounded_and_harmless() {
        let mut calls = ToolCalls::default();
        for value in [json!(null), json!(7), json!([]), json!({ "function": 7 }), json!({ "index": -1 })] {
            calls.add(&value).unwrap();
        }
        for index in 0..64 {
            calls.add(&piece(Some(index), "", "f", "")).ok();
        }
        assert!(matches!(calls.add(&piece(Some(100), "", "f", "")), Err(ChatError::TooLarge(_))));
        assert!(calls.add(&piece(Some(0), "", &"n".repeat(257), "")).is_err());
        let mut calls = ToolCalls::default();
        calls.add(&piece(Some(0), "", &"n".repeat(200), "")).unwrap();
        assert!(calls.add(&piece(Some(0), "", &"m".repeat(200), "")).is_err());
    }
}

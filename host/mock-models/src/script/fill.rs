//! Facts of a request in texts of a script: `{user}`, `{tool}`, `{result}`, `{model}`. Pure.

use serde_json::Value;

use crate::request::Request;

/// Longest text that is filled in for a name, in bytes.
const FACT_BYTES_MAX: usize = 4 << 10;

/// The names and the facts.
pub(super) struct Facts<'a>([(&'static str, &'a str); 4]);

impl<'a> Facts<'a> {
    pub(super) fn new(request: &'a Request) -> Self {
        let result = request.results.last();
        let (tool, text) = result.map_or(("", ""), |result| (result.name.as_str(), result.text.as_str()));
        Self([("{user}", &request.user), ("{tool}", tool), ("{result}", text), ("{model}", &request.model)])
    }

    /// The text with facts in place of names. A name inside a fact stays.
    pub(super) fn fill(&self, text: &str) -> String {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some(at) = rest.find('{') {
            let (before, after) = rest.split_at(at);
            filled.push_str(before);
            let known = self.0.iter().find_map(|(name, fact)| Some((after.strip_prefix(name)?, fact)));
            rest = match known {
                Some((after, fact)) => {
                    filled.push_str(bounded(fact));
                    after
                }
                None => {
                    filled.push('{');
                    after.get(1..).unwrap_or_default()
                }
            };
        }
        filled.push_str(rest);
        filled
    }

    /// The same in every text of a value.
    pub(super) fn fill_json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(items) => items.iter().map(|item| self.fill_json(item)).collect(),
            Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), self.fill_json(field))).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }
}

fn bounded(fact: &str) -> &str {
    fact.get(..fact.floor_char_boundary(FACT_BYTES_MAX)).unwrap_or_default()
}

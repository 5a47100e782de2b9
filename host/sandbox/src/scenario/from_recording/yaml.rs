//! Values as YAML writes them on one line.

use std::collections::BTreeMap;
use std::time::Duration;

use wasm_worker_core::text::escaped_json;

use crate::guest::contract::Attributes;

/// A text in double quotes. JSON's escapes are YAML's.
pub(super) fn quoted(text: &str) -> String {
    escaped_json(serde_json::to_string(text).unwrap_or_default())
}

/// Names and texts.
pub(super) fn mapping(pairs: &Attributes) -> String {
    let pairs: BTreeMap<&String, &String> = pairs.iter().map(|(name, value)| (name, value)).collect();
    let pairs = pairs.into_iter().map(|(name, value)| format!("{}: {}", quoted(name), quoted(value)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

/// A time in whole milliseconds, not before it.
pub(super) fn time_text(time: Duration) -> String {
    format!("{}ms", time.as_micros().div_ceil(1_000).max(1))
}

//! The values of a mapping of a scenario: each is taken by its key, and what is left over is unknown. Pure.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use wasm_worker_core::duration;

use super::matching::amount;
use super::tree::{Fault, Node, Value};

/// A mapping, of which values are taken.
pub(super) struct Fields<'a> {
    /// The line of the mapping.
    pub(super) line: usize,
    /// The name of what the mapping describes, for messages.
    what: &'static str,
    left: Vec<&'a (String, usize, Node)>,
    /// Every key that was asked for.
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of a mapping.
    pub(super) fn of(node: &'a Node, what: &'static str) -> Result<Self, Fault> {
        let left = match &node.value {
            Value::Map(pairs) => pairs.iter().collect(),
            other => return Err((node.line, format!("want a mapping for {what}, got {}", other.kind()))),
        };
        Ok(Self { line: node.line, what, left, known: Vec::new() })
    }

    /// Take the value of a key. One that is null is absent.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Node> {
        let node = self.take_nullable(key)?;
        (node.value != Value::Null).then_some(node)
    }

    /// Take the value of a key, also where it is null.
    pub(super) fn take_nullable(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        let at = self.left.iter().position(|(name, ..)| name == key)?;
        let (_, _, node) = self.left.remove(at);
        Some(node)
    }

    /// The value of a key that has to be there.
    pub(super) fn need(&mut self, key: &'static str) -> Result<&'a Node, Fault> {
        let line = self.line;
        self.take(key).ok_or_else(|| (line, format!("{} needs `{key}:`", self.what)))
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, Fault> {
        self.take(key).map(|node| text(node).map(str::to_owned)).transpose()
    }

    /// A text that has to be there.
    pub(super) fn need_text(&mut self, key: &'static str) -> Result<String, Fault> {
        text(self.need(key)?).map(str::to_owned)
    }

    /// A text, or an empty one.
    pub(super) fn text_or_empty(&mut self, key: &'static str) -> Result<String, Fault> {
        Ok(self.text(key)?.unwrap_or_default())
    }

    /// A duration.
    pub(super) fn duration(&mut self, key: &'static str) -> Result<Option<Duration>, Fault> {
        self.take(key).map(time).transpose()
    }

    /// A number of this kind.
    pub(super) fn number<T: FromStr>(&mut self, key: &'static str) -> Result<Option<T>, Fault> {
        self.take(key).map(number).transpose()
    }

    /// An amount such as `10M`.
    pub(super) fn amount(&mut self, key: &'static str) -> Result<Option<u64>, Fault> {
        let Some(node) = self.take(key) else { return Ok(None) };
        let text = text(node)?;
        let wanted = || (node.line, format!("want a whole number such as 500k, 10M or 2G, got `{text}`"));
        amount(text).map(Some).ok_or_else(wanted)
    }

    /// Names and texts.
    pub(super) fn texts_by_name(&mut self, key: &'static str) -> Result<BTreeMap<String, String>, Fault> {
        let Some(node) = self.take(key) else { return Ok(BTreeMap::new()) };
        texts_by_name(node)
    }

    /// The items of a list, or the one value that stands for a list of one.
    pub(super) fn items(&mut self, key: &'static str) -> &'a [Node] {
        match self.take(key) {
            None => &[],
            Some(Node { value: Value::List(items), .. }) => items,
            Some(node) => std::slice::from_ref(node),
        }
    }

    /// Fail where a key is left over.
    pub(super) fn end(self) -> Result<(), Fault> {
        let Some((name, line, _)) = self.left.first() else { return Ok(()) };
        let known = self.known.join(", ");
        Err((*line, format!("`{name}` is unknown for {}; known are {known}", self.what)))
    }
}

/// The text of a value.
pub(super) fn text(node: &Node) -> Result<&str, Fault> {
    match &node.value {
        Value::Text(text) => Ok(text),
        other => Err((node.line, format!("want a text, got {}", other.kind()))),
    }
}

/// The duration of a value.
pub(super) fn time(node: &Node) -> Result<Duration, Fault> {
    let text = text(node)?;
    duration::parse(text).map_err(|why| (node.line, format!("{why}; got `{text}`")))
}

/// The number of a value.
pub(super) fn number<T: FromStr>(node: &Node) -> Result<T, Fault> {
    let text = text(node)?;
    text.parse().map_err(|_| (node.line, format!("want a whole number in range, got `{text}`")))
}

/// The names and texts of a mapping.
pub(super) fn texts_by_name(node: &Node) -> Result<BTreeMap<String, String>, Fault> {
    match &node.value {
        Value::Map(pairs) => pairs.iter().map(|(name, _, value)| Ok((name.clone(), text(value)?.to_owned()))).collect(),
        other => Err((node.line, format!("want names and texts, got {}", other.kind()))),
    }
}

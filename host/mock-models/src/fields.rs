//! The values of a mapping: each is taken by its key, and a key that is left over is unknown. Pure.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use wasm_worker_core::duration;

use crate::tree::{Fault, Node, Value};

/// Likeness by Jaro and Winkler from which an unknown word is taken for a known one.
const SIMILAR: f64 = 0.8;

/// A mapping, of which values are taken.
pub struct Fields<'a> {
    /// The line of the mapping.
    pub line: usize,
    /// The name of the thing that the mapping describes, for messages.
    what: &'static str,
    left: Vec<&'a (String, usize, Node)>,
    /// Every key that was asked for.
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of a mapping.
    ///
    /// # Errors
    /// When the node is no mapping.
    pub fn new(node: &'a Node, what: &'static str) -> Result<Self, Fault> {
        let left = match &node.value {
            Value::Map(pairs) => pairs.iter().collect(),
            other => return Err((node.line, format!("want a mapping for {what}, got {}", other.kind()))),
        };
        Ok(Self { line: node.line, what, left, known: Vec::new() })
    }

    /// Take the value of a key. One that is null is absent.
    pub fn take(&mut self, key: &'static str) -> Option<&'a Node> {
        self.take_nullable(key).filter(|node| node.value != Value::Null)
    }

    /// Take the value of a key, also where it is null.
    pub fn take_nullable(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        let at = self.left.iter().position(|(name, ..)| name == key)?;
        let (_, _, node) = self.left.remove(at);
        Some(node)
    }

    /// The value of a key that has to be there.
    ///
    /// # Errors
    /// When it is not there.
    pub fn need(&mut self, key: &'static str) -> Result<&'a Node, Fault> {
        let line = self.line;
        self.take(key).ok_or_else(|| (line, format!("{} needs `{key}:`", self.what)))
    }

    /// A text.
    ///
    /// # Errors
    /// When the value is no text.
    pub fn text(&mut self, key: &'static str) -> Result<Option<String>, Fault> {
        self.take(key).map(|node| text(node).map(str::to_owned)).transpose()
    }

    /// A text that has to be there.
    ///
    /// # Errors
    /// When it is not there, or is no text.
    pub fn need_text(&mut self, key: &'static str) -> Result<String, Fault> {
        text(self.need(key)?).map(str::to_owned)
    }

    /// A text, or an empty one where there is none.
    ///
    /// # Errors
    /// When the value is no text.
    pub fn text_or_empty(&mut self, key: &'static str) -> Result<String, Fault> {
        Ok(self.text(key)?.unwrap_or_default())
    }

    /// Names and texts; none where there are none.
    ///
    /// # Errors
    /// When the value is no mapping of texts.
    pub fn texts_by_name(&mut self, key: &'static str) -> Result<BTreeMap<String, String>, Fault> {
        self.take(key).map_or_else(|| Ok(BTreeMap::new()), texts_by_name)
    }

    /// A duration.
    ///
    /// # Errors
    /// When the value is no duration above zero.
    pub fn duration(&mut self, key: &'static str) -> Result<Option<Duration>, Fault> {
        self.take(key).map(time).transpose()
    }

    /// A whole number that this type can hold.
    ///
    /// # Errors
    /// When the value is none.
    pub fn whole<T: FromStr>(&mut self, key: &'static str) -> Result<Option<T>, Fault> {
        self.take(key).map(whole).transpose()
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// When the value is none.
    pub fn number<T: FromStr + PartialOrd + Display>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, Fault> {
        self.take(key).map(|node| number(node, range)).transpose()
    }

    /// The items of a list, or the one value that stands for a list of one.
    pub fn items(&mut self, key: &'static str) -> &'a [Node] {
        self.take(key).map(items).unwrap_or_default()
    }

    /// Fail where a key is left over.
    ///
    /// # Errors
    /// With the first such key.
    pub fn end(self) -> Result<(), Fault> {
        let Some((name, line, _)) = self.left.first() else { return Ok(()) };
        Err((*line, unknown(name, self.what, &self.known)))
    }
}

/// The message for a word that is none of the known ones.
pub fn unknown(word: &str, what: &str, known: &[&str]) -> String {
    let scored = known.iter().map(|known| (strsim::jaro_winkler(word, known), known));
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other)).filter(|(likeness, _)| *likeness >= SIMILAR);
    let meant = best.map(|(_, known)| format!("; did you mean `{known}`?")).unwrap_or_default();
    format!("`{word}` is unknown for {what}{meant}; known are {}", known.join(", "))
}

/// The items of a list, or the one value that stands for a list of one.
pub fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// The text of a value.
///
/// # Errors
/// When it is no text.
pub fn text(node: &Node) -> Result<&str, Fault> {
    node.value.text().ok_or_else(|| (node.line, format!("want a text, got {}", node.value.kind())))
}

/// The duration of a value.
///
/// # Errors
/// When it is no duration above zero.
pub fn time(node: &Node) -> Result<Duration, Fault> {
    let text = text(node)?;
    duration::parse(text).map_err(|why| (node.line, format!("{why}; got `{text}`")))
}

/// The names and texts of a mapping.
///
/// # Errors
/// When it is no mapping of texts.
pub fn texts_by_name(node: &Node) -> Result<BTreeMap<String, String>, Fault> {
    match &node.value {
        Value::Map(pairs) => pairs.iter().map(|(name, _, value)| Ok((name.clone(), text(value)?.to_owned()))).collect(),
        other => Err((node.line, format!("want names and texts, got {}", other.kind()))),
    }
}

/// The whole number of a value, as this type holds it.
///
/// # Errors
/// When it is none, or more than the type holds.
pub fn whole<T: FromStr>(node: &Node) -> Result<T, Fault> {
    let text = text(node)?;
    text.parse().map_err(|_| (node.line, format!("want a whole number in range, got `{text}`")))
}

/// The whole number of a value.
///
/// # Errors
/// When it is none, or out of range.
pub fn number<T: FromStr + PartialOrd + Display>(node: &Node, range: RangeInclusive<T>) -> Result<T, Fault> {
    let text = text(node)?;
    let wanted = || {
        let (start, end) = (range.start(), range.end());
        (node.line, format!("want a whole number from {start} to {end}, got `{text}`"))
    };
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn unknown_keys_and_wrong_kinds_are_told_with_their_line() {
        let documents = tree::read("a: 1\nb: [x, y]\nmesage: c\n").unwrap();
        let mut fields = Fields::new(&documents[0], "a thing").unwrap();
        assert_eq!(fields.number("a", 2..=5_u64), Err((1, "want a whole number from 2 to 5, got `1`".into())));
        assert_eq!(fields.text("b"), Err((2, "want a text, got a list".into())));
        assert_eq!(fields.need("message").unwrap_err(), (1, "a thing needs `message:`".into()));
        let why = "`mesage` is unknown for a thing; did you mean `message`?; known are a, b, message";
        assert_eq!(fields.end(), Err((3, why.into())));
        let documents = tree::read("x").unwrap();
        assert_eq!(
            Fields::new(&documents[0], "a thing").err(),
            Some((1, "want a mapping for a thing, got a text".into()))
        );
        assert_eq!(unknown("zzz", "a thing", &["a"]), "`zzz` is unknown for a thing; known are a");
    }

    #[test]
    fn values_may_be_absent_null_or_needed() {
        let documents = tree::read("a: ~\nb: 7\nc: {x: y, z: 300}\nd: [1]\n").unwrap();
        let mut fields = Fields::new(&documents[0], "a thing").unwrap();
        assert!(fields.take_nullable("a").is_some() && fields.take_nullable("e").is_none());
        assert_eq!((fields.text_or_empty("f"), fields.whole::<u8>("b")), (Ok(String::new()), Ok(Some(7))));
        let texts = fields.texts_by_name("c").unwrap();
        assert_eq!((texts["x"].as_str(), texts["z"].as_str()), ("y", "300"));
        assert_eq!(fields.texts_by_name("d"), Err((4, "want names and texts, got a list".into())));
        assert_eq!(fields.need_text("g"), Err((1, "a thing needs `g:`".into())));
        let large = &tree::read("300").unwrap()[0];
        assert_eq!(whole::<u8>(large), Err((1, "want a whole number in range, got `300`".into())));
    }

    #[test]
    fn one_value_stands_for_a_list_of_one() {
        let documents = tree::read("{a: [1, 2], b: 3, c: 2m}").unwrap();
        let mut fields = Fields::new(&documents[0], "a thing").unwrap();
        assert_eq!([fields.items("a").len(), fields.items("b").len(), fields.items("x").len()], [2, 1, 0]);
        assert_eq!(fields.duration("c"), Ok(Some(Duration::from_secs(120))));
        assert_eq!(fields.end(), Ok(()));
    }
}

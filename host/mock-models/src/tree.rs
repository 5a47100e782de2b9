//! YAML as a tree with line numbers. Pure.
//!
//! Anchors, aliases, tags and keys that are no texts are refused: no script needs them, and an alias can make a small file large.
//!
//! Bounds: [`DEPTH_MAX`] levels, [`NODES_MAX`] values.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::Value as Json;

/// Most levels of a document.
const DEPTH_MAX: usize = 16;
/// Most values of a file.
const NODES_MAX: usize = 100_000;

/// A fault: its line, and what is wrong.
pub type Fault = (usize, String);

/// A value and its line, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The line, from 1.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing: `~`, `null`, or an empty place.
    Null,
    /// A text without quotes. A number and a truth value are such texts too; the place says what is wanted.
    Plain(String),
    /// A text in quotes, or a block of lines.
    Quoted(String),
    /// The items of a list, in order.
    List(Vec<Node>),
    /// Keys with their lines, in order.
    Map(Vec<(String, usize, Node)>),
}

impl Value {
    /// The kind of the value, in words.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Plain(_) | Self::Quoted(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    /// The text, with or without quotes.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Quoted(text) => Some(text),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The value as JSON. A plain text that JSON takes for a number or a truth value is one.
    pub fn json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Plain(text) => plain_json(text),
            Self::Quoted(text) => Json::String(text.clone()),
            Self::List(items) => items.iter().map(|item| item.value.json()).collect(),
            Self::Map(pairs) => pairs.iter().map(|(name, _, node)| (name.clone(), node.value.json())).collect(),
        }
    }
}

fn plain_json(text: &str) -> Json {
    match serde_json::from_str(text) {
        Ok(value @ (Json::Bool(_) | Json::Number(_))) => value,
        _ => Json::String(text.to_owned()),
    }
}

/// Read every document of a file.
///
/// # Errors
/// At the first fault.
pub fn read(text: &str) -> Result<Vec<Node>, Fault> {
    let mut reader = Reader { parser: Parser::new_from_str(text), nodes: 0 };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing, _) => {}
            (event, span) => documents.push(reader.node(event, span, 0)?),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err((error.marker().line().max(1), format!("this is no YAML: {}", error.info()))),
            None => Err((1, "this is no YAML: it ends too early".into())),
        }
    }

    /// The value that begins with this event.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Fault> {
        let line = span.start.line().max(1);
        self.nodes += 1;
        if depth >= DEPTH_MAX || self.nodes > NODES_MAX {
            return Err((line, format!("more than {DEPTH_MAX} levels or {NODES_MAX} values")));
        }
        let value = match event {
            Event::Scalar(text, style, 0, None) => scalar(text.into_owned(), style),
            Event::SequenceStart(0, None) => self.list(depth)?,
            Event::MappingStart(0, None) => self.map(depth)?,
            Event::Alias(_) | Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) => {
                let why = "anchors (`&`), aliases (`*`) and tags (`!`) have no meaning here; quote a text that begins with one";
                return Err((line, why.into()));
            }
            _ => return Err((line, "want a value".into())),
        };
        Ok(Node { line, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut pairs: Vec<(String, usize, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(pairs));
            }
            let key = self.node(event, span, depth + 1)?;
            let (Value::Plain(name) | Value::Quoted(name)) = key.value else {
                return Err((key.line, format!("want a key, got {}", key.value.kind())));
            };
            if let Some((_, first, _)) = pairs.iter().find(|(known, ..)| *known == name) {
                return Err((key.line, format!("`{name}` comes twice; the first is in line {first}")));
            }
            let (event, span) = self.next()?;
            pairs.push((name, key.line, self.node(event, span, depth + 1)?));
        }
    }
}

fn scalar(text: String, style: ScalarStyle) -> Value {
    match (style, text.as_str()) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        (ScalarStyle::Plain, _) => Value::Plain(text),
        _ => Value::Quoted(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_a_tree_with_lines() {
        let documents = read("models: [a]\nrules:\n  - answer: hi\n  - {answer: ~, x: \"~\"}\n---\ny: 1\n").unwrap();
        let [Node { line: 1, value: Value::Map(first) }, Node { value: Value::Map(second), .. }] = documents.as_slice()
        else {
            panic!("{documents:?}")
        };
        let Value::List(rules) = &first[1].2.value else { panic!("{first:?}") };
        assert_eq!(rules.iter().map(|rule| rule.line).collect::<Vec<_>>(), [3, 4]);
        let Value::Map(pairs) = &rules[1].value else { panic!("{rules:?}") };
        assert_eq!((&pairs[0].2.value, &pairs[1].2.value), (&Value::Null, &Value::Quoted("~".into())));
        assert_eq!(second[0].1, 6);
    }

    #[test]
    fn a_tree_is_json() {
        let document = &read("{a: 1, b: \"1\", c: [true, yes, ~, -2.5e1, 007], d: {e: f g}}").unwrap()[0];
        let wanted = serde_json::json!({
            "a": 1, "b": "1", "c": [true, "yes", null, -25.0, "007"], "d": { "e": "f g" }
        });
        assert_eq!(document.value.json(), wanted);
    }

    #[test]
    fn other_texts_are_refused_with_their_line() {
        let fault = |text: &str| read(text).unwrap_err();
        assert!(read("").unwrap().is_empty() && read("# a comment\n").unwrap().is_empty());
        assert_eq!(fault("a: 1\na: 2\n"), (2, "`a` comes twice; the first is in line 1".into()));
        assert!(fault("a: &x 1\nb: *x\n").1.starts_with("anchors"));
        assert!(fault("a: !t 1\n").1.starts_with("anchors"));
        assert_eq!(fault("[1]: 2\n").1, "want a key, got a list");
        assert!(fault("a: \"b\n").1.starts_with("this is no YAML"));
        assert!(fault(&["[".repeat(17), "]".repeat(17)].concat()).1.contains("levels"));
        assert_eq!(fault(&"[".repeat(300)).1, "this is no YAML: recursion limit exceeded");
        assert!(fault(&"- ".repeat(3_000)).1.contains("levels"));
    }
}

//! Texts and names as a rule wants them. Pure.

use std::fmt;

use regex_lite::{Regex, RegexBuilder};
use wasm_worker_core::text::clip;

use crate::fields::{Fields, text};
use crate::tree::{Fault, Node};

/// Largest compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Longest text that a message shows, in bytes.
const SHOWN_BYTES_MAX: usize = 400;

/// A text that is wanted. Everything that is set has to hold.
#[derive(Clone, Debug, Default)]
pub struct TextMatch {
    /// The whole text.
    pub equals: Option<String>,
    /// Parts of it.
    pub contains: Vec<String>,
    /// A regular expression that finds something in it.
    pub pattern: Option<Regex>,
}

impl TextMatch {
    /// Read a match: a whole text, or a mapping with `equals`, `contains` and `pattern`.
    ///
    /// # Errors
    /// At the first fault.
    pub fn read(node: &Node) -> Result<Self, Fault> {
        if let Some(text) = node.value.text() {
            return Ok(Self { equals: Some(text.to_owned()), ..Self::default() });
        }
        let mut fields = Fields::new(node, "a text")?;
        let matched = Self::take(&mut fields)?;
        fields.end()?;
        Ok(matched)
    }

    /// Take `equals`, `contains` and `pattern` of a mapping that may have more.
    ///
    /// # Errors
    /// At the first fault.
    pub fn take(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let equals = fields.text("equals")?;
        let contains =
            fields.items("contains").iter().map(|item| text(item).map(str::to_owned)).collect::<Result<_, _>>()?;
        let pattern = fields.take("pattern").map(pattern).transpose()?;
        Ok(Self { equals, contains, pattern })
    }

    /// Whether a text is as wanted.
    pub fn fits(&self, text: &str) -> bool {
        self.equals.as_ref().is_none_or(|wanted| wanted == text)
            && self.contains.iter().all(|part| text.contains(part.as_str()))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
    }

    /// Whether every text is as wanted.
    pub fn is_any(&self) -> bool {
        self.equals.is_none() && self.contains.is_empty() && self.pattern.is_none()
    }
}

impl fmt::Display for TextMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.equals.iter().map(|text| format!("equal to {}", shown(text))));
        parts.extend(self.contains.iter().map(|text| format!("that contains {}", shown(text))));
        parts.extend(self.pattern.iter().map(|pattern| format!("that matches /{}/", pattern.as_str())));
        f.write_str(&parts.join(" and "))
    }
}

/// A text in quotes, on one line of bounded length.
pub fn shown(text: &str) -> String {
    let end = text.floor_char_boundary(SHOWN_BYTES_MAX);
    let cut = if end < text.len() { "…" } else { "" };
    clip(&format!("{:?}{cut}", text.get(..end).unwrap_or_default()))
}

fn pattern(node: &Node) -> Result<Regex, Fault> {
    let text = text(node)?;
    let compiled = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    compiled.map_err(|error| (node.line, format!("`{text}` is no regular expression: {error}")))
}

/// Whether a name fits a pattern in which `*` stands for any characters. Takes time in proportion to both lengths.
pub fn glob(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return name.ends_with(part);
        }
        let Some(at) = name.find(part) else { return false };
        name = name.get(at + part.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    fn fits(wanted: &str, text: &str) -> bool {
        TextMatch::read(&tree::read(wanted).unwrap()[0]).unwrap().fits(text)
    }

    #[test]
    fn a_text_fits_when_everything_holds() {
        assert!(fits("hello", "hello") && !fits("hello", "hello there"));
        assert!(fits("{contains: [weather, Paris]}", "the weather in Paris") && !fits("{contains: [a, z]}", "a"));
        assert!(fits("{contains: a, pattern: \"^b\"}", "ba") && !fits("{contains: a, pattern: \"^b\"}", "ab"));
        let fault = TextMatch::read(&tree::read("{pattern: \"(\"}").unwrap()[0]).unwrap_err();
        assert!(fault.1.starts_with("`(` is no regular expression: "), "{fault:?}");
        let fault = TextMatch::read(&tree::read("{contain: a}").unwrap()[0]).unwrap_err();
        assert!(fault.1.contains("did you mean `contains`?"), "{fault:?}");
    }

    #[test]
    fn a_match_is_told_in_words() {
        let read = |yaml: &str| TextMatch::read(&tree::read(yaml).unwrap()[0]).unwrap();
        let words = read("{contains: [a, \"b\\n\"], pattern: \"^c\"}").to_string();
        assert_eq!(words, r#"that contains "a" and that contains "b\n" and that matches /^c/"#);
        assert!(read("{}").is_any() && !read("x").is_any());
        let long = shown(&"é".repeat(1_000));
        assert!(long.ends_with("…") && long.len() < 2 * SHOWN_BYTES_MAX, "{long}");
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        let good = [
            ("*", ""),
            ("gpt-*", "gpt-4"),
            ("a*c", "abc"),
            ("*b*", "abc"),
            ("a*b*c", "a.b.b.c"),
            ("abc", "abc"),
            ("**", "x"),
        ];
        assert!(good.iter().all(|(pattern, name)| glob(pattern, name)), "{good:?}");
        let bad = [("a*c", "a"), ("abc", "abcd"), ("a*b*c", "acb"), ("*x", "xy"), ("ab*ba", "aba")];
        assert!(bad.iter().all(|(pattern, name)| !glob(pattern, name)), "{bad:?}");
    }
}

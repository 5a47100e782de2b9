//! Texts and names as a rule wants them. Pure.

use regex_lite::{Regex, RegexBuilder};

use crate::fields::{Fields, text};
use crate::tree::{Fault, Node};

/// Largest compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

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
        let equals = fields.text("equals")?;
        let contains =
            fields.items("contains").iter().map(|item| text(item).map(str::to_owned)).collect::<Result<_, _>>()?;
        let pattern = fields.take("pattern").map(pattern).transpose()?;
        fields.end()?;
        Ok(Self { equals, contains, pattern })
    }

    /// Whether a text is as wanted.
    pub fn fits(&self, text: &str) -> bool {
        self.equals.as_ref().is_none_or(|wanted| wanted == text)
            && self.contains.iter().all(|part| text.contains(part.as_str()))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
    }
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
    fn a_star_stands_for_any_characters() {
        let good = [("*", ""), ("gpt-*", "gpt-4"), ("a*c", "abc"), ("*b*", "abc"), ("abc", "abc"), ("**", "x")];
        assert!(good.iter().all(|(pattern, name)| glob(pattern, name)), "{good:?}");
        let bad = [("a*c", "a"), ("abc", "abcd"), ("a*b*c", "acb"), ("*x", "xy"), ("ab*ba", "aba")];
        assert!(bad.iter().all(|(pattern, name)| !glob(pattern, name)), "{bad:?}");
    }
}

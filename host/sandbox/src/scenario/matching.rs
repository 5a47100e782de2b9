//! Texts, URLs and amounts as a scenario wants them. Pure.

use std::fmt;

use regex_lite::Regex;
use wasm_worker_core::text::clip;

/// Longest text that a message shows, in bytes.
const SHOWN_BYTES_MAX: usize = 400;

/// A text that is wanted. Everything that is set has to hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextMatch {
    pub(crate) equals: Option<String>,
    pub(crate) contains: Vec<String>,
    pub(crate) pattern: Option<Regex>,
}

impl TextMatch {
    /// Whether a text is as wanted.
    pub(crate) fn fits(&self, text: &str) -> bool {
        self.equals.as_ref().is_none_or(|wanted| wanted == text)
            && self.contains.iter().all(|part| text.contains(part.as_str()))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
    }

    /// Whether every text is as wanted.
    pub(crate) fn is_any(&self) -> bool {
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
pub(crate) fn shown(text: &str) -> String {
    let end = text.floor_char_boundary(SHOWN_BYTES_MAX);
    let cut = if end < text.len() { "…" } else { "" };
    clip(&format!("{:?}{cut}", text.get(..end).unwrap_or_default()))
}

/// A request that is wanted: `POST https://api.example/*`, or a URL alone for any method. `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestMatch {
    method: Option<String>,
    url: String,
}

impl RequestMatch {
    /// Read a pattern.
    pub(crate) fn new(text: &str) -> Self {
        match text.trim().split_once(char::is_whitespace) {
            Some((method, url)) => Self {
                method: Some(method.to_ascii_uppercase()).filter(|method| method != "*"),
                url: url.trim().to_owned(),
            },
            None => Self { method: None, url: text.trim().to_owned() },
        }
    }

    /// Whether a request is as wanted.
    pub(crate) fn fits(&self, method: &str, url: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method)) && glob(&self.url, url)
    }
}

impl fmt::Display for RequestMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.method {
            Some(method) => write!(f, "{method} {}", self.url),
            None => f.write_str(&self.url),
        }
    }
}

/// Whether a text fits a pattern in which `*` stands for any characters. Takes time in proportion to both lengths.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        let Some(at) = text.find(part) else { return false };
        text = text.get(at + part.len()..).unwrap_or_default();
    }
    true
}

/// A whole number with an optional unit: `k`, `M`, `G`.
pub(crate) fn amount(text: &str) -> Option<u64> {
    let text = text.replace('_', "");
    let (digits, unit) = match text.char_indices().last()? {
        (at, 'k') => (text.get(..at)?, 1_000),
        (at, 'M') => (text.get(..at)?, 1_000_000),
        (at, 'G') => (text.get(..at)?, 1_000_000_000),
        _ => (text.as_str(), 1),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// A range of amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) min: Option<u64>,
    pub(crate) max: Option<u64>,
}

impl Range {
    /// Whether an amount is in the range.
    pub(crate) fn fits(self, amount: u64) -> bool {
        self.min.is_none_or(|min| amount >= min) && self.max.is_none_or(|max| amount <= max)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (Some(min), Some(max)) => write!(f, "from {min} to {max}"),
            (Some(min), None) => write!(f, "at least {min}"),
            (None, Some(max)) => write!(f, "at most {max}"),
            (None, None) => f.write_str("any"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let fits =
            [("*", ""), ("a*", "a"), ("a*c", "abc"), ("*b*", "abc"), ("a*b*c", "a.b.b.c"), ("abc", "abc"), ("**", "x")];
        assert!(fits.iter().all(|(pattern, text)| glob(pattern, text)), "{fits:?}");
        let others = [("a*c", "a"), ("abc", "abcd"), ("a*b*c", "acb"), ("*x", "xy"), ("ab*ba", "aba")];
        assert!(others.iter().all(|(pattern, text)| !glob(pattern, text)), "{others:?}");
    }

    #[test]
    fn a_request_has_a_method_and_a_url() {
        let post = RequestMatch::new("post https://api.example/*");
        assert!(post.fits("POST", "https://api.example/v1") && !post.fits("GET", "https://api.example/v1"));
        assert!(RequestMatch::new("https://*").fits("PUT", "https://x") && RequestMatch::new("* *").fits("A", "b"));
        assert_eq!(post.to_string(), "POST https://api.example/*");
    }

    #[test]
    fn amounts_have_units() {
        let read = ["10M", "500k", "2G", "7", "1_000"].map(amount);
        assert_eq!(read, [Some(10_000_000), Some(500_000), Some(2_000_000_000), Some(7), Some(1_000)]);
        assert_eq!(["", "M", "-1", "1.5M", "99999999999999999999", "20000000000G", "+1"].map(amount), [None; 7]);
        assert!(Range { min: None, max: Some(3) }.fits(3) && !Range { min: Some(4), max: None }.fits(3));
    }
}

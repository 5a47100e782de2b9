//! URLs and amounts as a scenario wants them. Pure.

use std::fmt;

use wasm_worker_mock_models::matching::glob;

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
            (Some(min), Some(max)) if min == max => write!(f, "exactly {min}"),
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

//! Texts from guests, peers and servers: one line of bounded length without characters that act on a terminal, and an estimate of
//! the memory that texts take.

use std::borrow::Cow;
use std::fmt::Write;

/// Longest line that [`clip`] keeps, in bytes. The end of a longer line is replaced by its length.
pub const LINE_BYTES_MAX: usize = 8 << 10;

/// Allocators round sizes up to this step and keep as much for themselves with each allocation.
const ALLOCATION_STEP: usize = 16;

/// Whether a terminal may act on the character instead of showing it: a control character (C0, DEL or C1), a mark that reorders
/// text, or a separator of lines.
pub fn acts_on_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text as one line that a terminal only shows: a space stands for each character that [acts](acts_on_terminal), but a tab
/// stays.
pub fn one_line(text: &str) -> Cow<'_, str> {
    without(text, |c| acts_on_terminal(c) && c != '\t')
}

/// The same for a text of several lines: line feeds stay too. Each foreign part of it needs [`one_line`] before.
pub fn lines(text: &str) -> Cow<'_, str> {
    without(text, |c| acts_on_terminal(c) && c != '\t' && c != '\n')
}

fn without(text: &str, acts: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if acts(c) { ' ' } else { c }).collect())
}

/// A JSON text in which every character that [acts](acts_on_terminal) is escaped. The value stays the same: such a character
/// stands in a string, unless the text has white space between its parts.
pub fn escaped_json(json: String) -> String {
    if !json.contains(acts_on_terminal) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if acts_on_terminal(c) {
            // Every such character has at most four hexadecimal digits. A write to a text cannot fail.
            write!(escaped, "\\u{:04x}", u32::from(c)).ok();
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// One line of at most [`LINE_BYTES_MAX`] bytes that a terminal only shows.
pub fn clip(text: &str) -> String {
    let end = text.floor_char_boundary(LINE_BYTES_MAX);
    let mut line = one_line(text.get(..end).unwrap_or_default()).into_owned();
    if end < text.len() {
        line.push_str(&format!("… ({} bytes in all)", text.len()));
    }
    line
}

/// An error with its causes, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    clip(&text)
}

/// `1 fault`, `2 faults`.
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Host memory that name-value pairs take, in bytes.
pub fn pairs_bytes(pairs: &[(String, String)]) -> usize {
    pairs.iter().map(|(name, value)| pair_bytes(name, value)).sum()
}

/// Host memory that one name-value pair takes, in bytes.
pub fn pair_bytes(name: &str, value: &str) -> usize {
    text_bytes(name) + text_bytes(value)
}

/// Host memory that a text takes, in bytes: its header and its allocation, so that many short texts count in full.
pub fn text_bytes(text: &str) -> usize {
    let allocated = if text.is_empty() { 0 } else { text.len().next_multiple_of(ALLOCATION_STEP) + ALLOCATION_STEP };
    size_of::<String>() + allocated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_with_its_causes() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("outer")
            }
        }
        impl std::error::Error for Outer {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        assert_eq!(with_causes(&Outer(std::io::Error::other("inner"))), "outer: inner");
    }

    #[test]
    fn a_clipped_line_is_bounded_and_has_no_control_characters() {
        assert_eq!(clip("a\u{1b}[31mb\nc\td"), "a [31mb c\td");
        assert_eq!(
            clip("bell\u{7}, DEL\u{7f}, CSI\u{9b}2J, line\u{2028}line, \u{202e}txt.exe"),
            "bell , DEL , CSI 2J, line line,  txt.exe"
        );
        let long = "é".repeat(LINE_BYTES_MAX);
        let clipped = clip(&long);
        assert!(clipped.len() < LINE_BYTES_MAX + 64 && clipped.ends_with(&format!("({} bytes in all)", long.len())));
    }

    #[test]
    fn a_text_of_several_lines_keeps_its_line_feeds_only() {
        assert_eq!(lines("a\r\n\tb\u{1b}]0;c\u{7}"), "a \n\tb ]0;c ");
        assert!(matches!(lines("plain: é ✔"), Cow::Borrowed(_)));
    }

    #[test]
    fn escaped_json_has_the_same_value_and_nothing_that_acts_on_a_terminal() {
        let value = serde_json::json!({ "a\u{9b}": "\u{1b}[2J\u{7f}\u{85}\u{2029}\u{200f}\u{2066} \"é\" \\u0041" });
        let escaped = escaped_json(value.to_string());
        assert!(!escaped.contains(acts_on_terminal), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }
}

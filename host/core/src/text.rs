//! Texts from guests, peers and servers: one line of bounded length, and an estimate of the memory that they take.

/// Longest line that [`clip`] keeps, in bytes. The end of a longer line is replaced by its length.
pub const LINE_BYTES_MAX: usize = 8 << 10;

/// Allocators round sizes up to this step and keep as much for themselves with each allocation.
const ALLOCATION_STEP: usize = 16;

/// One line of at most [`LINE_BYTES_MAX`] bytes without control characters, which could otherwise write on a terminal.
pub fn clip(text: &str) -> String {
    let end = text.floor_char_boundary(LINE_BYTES_MAX);
    let kept = text.get(..end).unwrap_or_default();
    let mut line: String = kept.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
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
        let long = "é".repeat(LINE_BYTES_MAX);
        let clipped = clip(&long);
        assert!(clipped.len() < LINE_BYTES_MAX + 64 && clipped.ends_with(&format!("({} bytes in all)", long.len())));
    }
}

//! Server-sent events as lines of text, with the oddities of other servers. Form: the HTML standard, "Server-sent events".

use serde_json::Value;

use crate::plan::Oddity;

/// The comment that keeps connections.
const COMMENT: &str = ": keep-alive";

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// The name; the vendor's chats have none.
    name: Option<&'static str>,
    data: String,
}

impl Event {
    pub(super) const fn unnamed(data: String) -> Self {
        Self { name: None, data }
    }

    pub(super) fn named(name: &'static str, data: &Value) -> Self {
        Self { name: Some(name), data: data.to_string() }
    }
}

/// The form of the lines.
#[derive(Clone, Debug)]
pub(super) struct Events {
    line_end: &'static str,
    /// What stands before the data.
    field: &'static str,
    comment: Option<&'static str>,
}

impl Events {
    pub(super) fn new(oddities: &[Oddity]) -> Self {
        let has = |oddity| oddities.contains(&oddity);
        Self {
            line_end: if has(Oddity::Crlf) { "\r\n" } else { "\n" },
            field: if has(Oddity::NoSpace) { "data:" } else { "data: " },
            comment: has(Oddity::Comments).then_some(COMMENT),
        }
    }

    /// The bytes of events.
    pub(super) fn encoded(&self, events: &[Event]) -> Vec<u8> {
        let mut text = String::new();
        for Event { name, data } in events {
            if let Some(comment) = self.comment {
                text.extend([comment, self.line_end, self.line_end]);
            }
            if let Some(name) = name {
                text.extend(["event: ", name, self.line_end]);
            }
            text.extend([self.field, data, self.line_end, self.line_end]);
        }
        text.into_bytes()
    }
}

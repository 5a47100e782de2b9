//! An answer as a list of timed pieces, before any protocol. Pure.
//!
//! Bounds: [`TOKENS_MAX`] tokens.

use std::time::Duration;

use crate::error::ApiError;

/// Most tokens of an answer. One that is longer ends there, with [`Finish::Length`].
pub const TOKENS_MAX: usize = 20_000;
/// Longest token of a text, in bytes.
const TEXT_TOKEN_BYTES_MAX: usize = 24;
/// Longest token of arguments, in bytes.
const ARGUMENTS_TOKEN_BYTES_MAX: usize = 8;

/// What a request gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The line of the rule that fits; none where no rule does.
    pub line: Option<usize>,
    /// The reply.
    pub reply: Reply,
}

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Nothing at all: the client waits.
    Silence,
    /// An error.
    Refusal(ApiError),
    /// An answer of the model.
    Answer(Answer),
}

/// An answer of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The pieces, in the order of their times.
    pub pieces: Vec<TimedPiece>,
    /// Why the answer ends.
    pub finish: Finish,
    /// The usage; none where the server does not tell it.
    pub usage: Option<Usage>,
    /// How the bytes differ from those of the vendor's servers.
    pub oddities: Vec<Oddity>,
    /// The time between two bytes of the answer, where they come one by one.
    pub byte_every: Option<Duration>,
}

/// A piece, and its time since the request.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedPiece {
    /// Time since the request.
    pub at: Duration,
    /// The piece.
    pub piece: Piece,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A token of the text.
    Text(String),
    /// The beginning of a call of a tool.
    Call {
        /// The id of the call.
        id: String,
        /// The tool.
        name: String,
    },
    /// A token of the arguments of the last call.
    Arguments(String),
    /// A part that is no JSON.
    WrongJson,
    /// A token of this many bytes, in one line.
    LongLine(usize),
    /// The answer is over in the middle, in one of the ways of [`Interruption`].
    Interrupted(Interruption),
}

/// A way in which an answer is over in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// Nothing more comes, and the connection stays.
    Hang,
    /// The body ends as if it were complete.
    Stop,
    /// The connection breaks.
    Cut,
    /// An error comes, and the body ends.
    Error,
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model has said everything.
    Stop,
    /// The answer has as many tokens as are allowed.
    Length,
    /// The model wants results of tools.
    ToolCalls,
    /// A filter ended it.
    ContentFilter,
}

/// Tokens of a request. Here a token is a word, or a part of a long one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the question.
    pub prompt: u64,
    /// Tokens of the question that the server had in its cache.
    pub cached: u64,
    /// Tokens of the answer.
    pub completion: u64,
}

/// A difference to the bytes of the vendor's servers, as other servers send them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Lines end with CR and LF.
    Crlf,
    /// A comment stands before each event, as servers send to keep connections.
    Comments,
    /// No space stands after `data:`.
    NoSpace,
    /// The stream has no `[DONE]` at its end.
    NoDone,
    /// The first event, or the whole answer, has no choices.
    EmptyChoices,
    /// Arguments come in pieces of one character.
    TinyCalls,
    /// The usage is missing.
    NoUsage,
}

/// The speed of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time from the request to the first token.
    pub first_token: Duration,
    /// Tokens a second after it.
    pub tokens_per_second: u64,
}

impl Pace {
    /// The time of a token, from 0, since the request.
    pub(crate) fn time(&self, token: usize) -> Duration {
        let nanoseconds = (token as u64).saturating_mul(1_000_000_000) / self.tokens_per_second.max(1);
        self.first_token.saturating_add(Duration::from_nanos(nanoseconds))
    }
}

/// The tokens of a text: words with the white space before them.
pub(crate) fn text_tokens(text: &str) -> Vec<String> {
    tokens(text, TEXT_TOKEN_BYTES_MAX)
}

/// The tokens of arguments.
pub(crate) fn arguments_tokens(text: &str, are_tiny: bool) -> Vec<String> {
    if are_tiny {
        return text.chars().map(String::from).collect();
    }
    tokens(text, ARGUMENTS_TOKEN_BYTES_MAX)
}

fn tokens(text: &str, bytes_max: usize) -> Vec<String> {
    let (mut tokens, mut token) = (Vec::new(), String::new());
    for c in text.chars() {
        let begins_word = c.is_whitespace() && !token.trim_start().is_empty();
        if begins_word || token.len() + c.len_utf8() > bytes_max {
            tokens.push(std::mem::take(&mut token));
        }
        token.push(c);
    }
    if !token.is_empty() {
        tokens.push(token);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_words_with_the_space_before_them() {
        assert_eq!(text_tokens("Hello there,  you"), ["Hello", " there,", "  you"]);
        assert_eq!(text_tokens(&"x".repeat(50)).iter().map(String::len).collect::<Vec<_>>(), [24, 24, 2]);
        assert_eq!(arguments_tokens("{\"é\"", true), ["{", "\"", "é", "\""]);
        assert!(text_tokens("").is_empty());
    }

    #[test]
    fn tokens_come_at_a_steady_pace() {
        let pace = Pace { first_token: Duration::from_millis(200), tokens_per_second: 40 };
        assert_eq!([0, 1, 40].map(|token| pace.time(token).as_millis()), [200, 225, 1_200]);
    }

    proptest! {
        #[test]
        fn tokens_together_are_the_text(text in ".{0,200}", are_tiny in any::<bool>()) {
            prop_assert_eq!(text_tokens(&text).concat(), text.clone());
            prop_assert_eq!(arguments_tokens(&text, are_tiny).concat(), text);
        }
    }
}

//! From a plan to the bytes of the protocol: one body, or a stream of events, as frames with their times. Pure.
//!
//! Frames are made one at a time, as they are asked for, so a long answer takes no memory before its time.

mod events;

mod chat;
mod responses;

mod stream;

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;

use crate::plan::{Answer, Interruption, Oddity, Piece, TimedPiece};
use crate::request::{Delivery, Protocol, Request};
use crate::script::MODEL;
use chat::Chat;
use responses::Responses;
use stream::Stream;

/// The header that each answer carries, with [`banner`] as its value.
pub const HEADER: &str = "x-stand-in";
/// The media type of a whole answer.
pub const JSON: &str = "application/json";
/// The media type of a stream.
pub const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// The program that answers, for the header.
pub const fn banner() -> &'static str {
    concat!("wasm-worker mock-models ", env!("CARGO_PKG_VERSION"), "; no model")
}

/// The name of the model in an answer. It says in each case that a stand-in answers.
pub fn model_name(asked: &str) -> String {
    if asked.starts_with(MODEL) { asked.to_owned() } else { format!("{MODEL}/{asked}") }
}

/// The facts of an answer that its plan does not hold.
#[derive(Clone, Debug)]
pub struct Head {
    /// The number of the request, from 1.
    pub number: u64,
    /// The time of the request, in seconds since 1970.
    pub created: u64,
    /// The name of the model in the answer.
    pub model: String,
    /// The protocol of the answer.
    pub protocol: Protocol,
    /// How it comes.
    pub delivery: Delivery,
}

impl Head {
    /// The facts of the answer to a request.
    pub fn new(request: &Request, number: u64, created: u64) -> Self {
        let (protocol, delivery) = (request.protocol, request.delivery);
        Self { number, created, model: model_name(&request.model), protocol, delivery }
    }

    /// The media type of the answer.
    pub const fn content_type(&self) -> &'static str {
        match self.delivery {
            Delivery::Whole => JSON,
            Delivery::Stream | Delivery::StreamWithUsage => EVENT_STREAM,
        }
    }
}

/// A part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Time since the request.
    pub at: Duration,
    /// The part.
    pub act: Act,
}

/// What happens at the time of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Bytes are sent.
    Send(Vec<u8>),
    /// Nothing more is sent, and the connection stays.
    Hang,
    /// The connection breaks.
    Cut,
}

/// The frames of an answer, in the order of their times. The body ends after the last.
pub fn frames(answer: Answer, head: Head) -> Frames {
    let byte_every = answer.byte_every;
    let rest = match head.delivery {
        Delivery::Whole => Rest::Made(whole(answer, head).into()),
        Delivery::Stream | Delivery::StreamWithUsage => Rest::Stream(Box::new(Stream::new(answer, head))),
    };
    Frames { rest, slow: byte_every.map(|every| Slow { every, earliest: Duration::ZERO, bytes: VecDeque::new() }) }
}

/// The frames of an answer.
#[derive(Debug)]
pub struct Frames {
    rest: Rest,
    slow: Option<Slow>,
}

impl Frames {
    /// One body that is there at once.
    pub(crate) fn once(bytes: Vec<u8>) -> Self {
        let frame = Frame { at: Duration::ZERO, act: Act::Send(bytes) };
        Self { rest: Rest::Made([frame].into()), slow: None }
    }
}

#[derive(Debug)]
enum Rest {
    Made(VecDeque<Frame>),
    Stream(Box<Stream>),
}

/// Bytes that come one by one.
#[derive(Debug)]
struct Slow {
    every: Duration,
    /// The time before which no byte comes.
    earliest: Duration,
    bytes: VecDeque<u8>,
}

impl Iterator for Frames {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let Some(slow) = &mut self.slow else { return self.rest.next() };
        if slow.bytes.is_empty() {
            match self.rest.next()? {
                Frame { at, act: Act::Send(bytes) } => {
                    slow.earliest = slow.earliest.max(at);
                    slow.bytes = bytes.into();
                }
                Frame { at, act } => return Some(Frame { at: at.max(slow.earliest), act }),
            }
        }
        let byte = slow.bytes.pop_front()?;
        let frame = Frame { at: slow.earliest, act: Act::Send(vec![byte]) };
        slow.earliest = slow.earliest.saturating_add(slow.every);
        Some(frame)
    }
}

impl Rest {
    fn next(&mut self) -> Option<Frame> {
        match self {
            Self::Made(frames) => frames.pop_front(),
            Self::Stream(stream) => stream.next(),
        }
    }
}

/// The frames of one body. It comes when its last token would.
fn whole(answer: Answer, head: Head) -> Vec<Frame> {
    let at = answer.pieces.last().map_or(Duration::ZERO, |last| last.at);
    let (mut interrupted, mut is_wrong) = (None, false);
    for TimedPiece { piece, .. } in &answer.pieces {
        match piece {
            Piece::Interrupted(interruption) => interrupted = Some(*interruption),
            Piece::WrongJson => is_wrong = true,
            _ => {}
        }
    }
    let mut body = body(answer, head).to_string().into_bytes();
    if is_wrong {
        // The last brace.
        body.pop();
    }
    let send = |body: Vec<u8>| Frame { at, act: Act::Send(body) };
    let ending = match interrupted {
        None => return vec![send(body)],
        Some(Interruption::Stop | Interruption::Error) => None,
        Some(Interruption::Hang) => Some(Act::Hang),
        Some(Interruption::Cut) => Some(Act::Cut),
    };
    body.truncate(body.len() / 2);
    [send(body)].into_iter().chain(ending.map(|act| Frame { at, act })).collect()
}

fn body(answer: Answer, head: Head) -> Value {
    let pieces = answer.pieces.into_iter().map(|timed| timed.piece);
    match head.protocol {
        Protocol::Chat => {
            let is_empty = answer.oddities.contains(&Oddity::EmptyChoices);
            Chat::new(head).whole(pieces, answer.finish, answer.usage, is_empty)
        }
        Protocol::Responses => Responses::new(head).whole(pieces, answer.finish, answer.usage),
    }
}

#[cfg(test)]
mod tests;

//! From a plan to the bytes of the protocol: one body, or a stream of events, as frames with their times. Pure.
//!
//! Frames are made one at a time, as they are asked for, so a long answer takes no memory before its time.

mod events;

mod chat;
mod responses;

use std::collections::VecDeque;
use std::time::Duration;
use std::vec::IntoIter;

use serde_json::Value;

use crate::error::ApiError;
use crate::plan::{Answer, Finish, Interruption, Oddity, Piece, TimedPiece, Usage};
use crate::request::{Delivery, Protocol, Request};
use crate::script::MODEL;
use chat::Chat;
use events::{Event, Events};
use responses::Responses;

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

/// A stream of events.
#[derive(Debug)]
struct Stream {
    encoder: Encoder,
    events: Events,
    pieces: IntoIter<TimedPiece>,
    ending: Ending,
    stage: Stage,
    /// The time of the last frame.
    at: Duration,
}

/// How a stream ends.
#[derive(Debug)]
struct Ending {
    finish: Finish,
    usage: Option<Usage>,
    has_done: bool,
    begins_empty: EmptyChoices,
}

/// Whether the first event has no choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EmptyChoices {
    First,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Pieces,
    Over,
}

#[derive(Debug)]
enum Encoder {
    Chat(Chat),
    Responses(Responses),
}

impl Stream {
    fn new(answer: Answer, head: Head) -> Self {
        let has = |oddity| answer.oddities.contains(&oddity);
        let begins_empty = if has(Oddity::EmptyChoices) { EmptyChoices::First } else { EmptyChoices::Never };
        let has_done = head.protocol == Protocol::Chat && !has(Oddity::NoDone);
        Self {
            events: Events::new(&answer.oddities),
            encoder: Encoder::new(head),
            ending: Ending { finish: answer.finish, usage: answer.usage, has_done, begins_empty },
            at: answer.pieces.first().map_or(Duration::ZERO, |piece| piece.at),
            pieces: answer.pieces.into_iter(),
            stage: Stage::Begin,
        }
    }

    fn next(&mut self) -> Option<Frame> {
        match self.stage {
            Stage::Begin => {
                self.stage = Stage::Pieces;
                let has_text = matches!(
                    self.pieces.as_slice().first(),
                    None | Some(TimedPiece { piece: Piece::Text(_) | Piece::LongLine(_), .. })
                );
                let mut events = Vec::new();
                if self.ending.begins_empty == EmptyChoices::First {
                    events.extend(self.encoder.without_choices());
                }
                events.extend(self.encoder.begin(has_text));
                Some(self.send(&events))
            }
            Stage::Pieces => match self.pieces.next() {
                Some(TimedPiece { at, piece }) => {
                    self.at = at;
                    self.piece(piece)
                }
                None => {
                    self.stage = Stage::Over;
                    let mut events = self.encoder.end(self.ending.finish, self.ending.usage);
                    if self.ending.has_done {
                        events.push(Event::unnamed("[DONE]".into()));
                    }
                    Some(self.send(&events))
                }
            },
            Stage::Over => None,
        }
    }

    fn piece(&mut self, piece: Piece) -> Option<Frame> {
        let Piece::Interrupted(interruption) = piece else {
            let events = self.encoder.piece(piece);
            return Some(self.send(&events));
        };
        self.stage = Stage::Over;
        let act = match interruption {
            Interruption::Stop => return None,
            Interruption::Hang => Act::Hang,
            Interruption::Cut => Act::Cut,
            Interruption::Error => {
                let failure = self.encoder.failure();
                return Some(self.send(&[failure]));
            }
        };
        Some(Frame { at: self.at, act })
    }

    fn send(&self, events: &[Event]) -> Frame {
        Frame { at: self.at, act: Act::Send(self.events.encoded(events)) }
    }
}

impl Encoder {
    fn new(head: Head) -> Self {
        match head.protocol {
            Protocol::Chat => Self::Chat(Chat::new(head)),
            Protocol::Responses => Self::Responses(Responses::new(head)),
        }
    }

    fn begin(&mut self, has_text: bool) -> Vec<Event> {
        match self {
            Self::Chat(chat) => vec![chat.begin(has_text)],
            Self::Responses(responses) => responses.begin(),
        }
    }

    /// The event without choices. The other protocol has no choices at all.
    fn without_choices(&self) -> Option<Event> {
        match self {
            Self::Chat(chat) => Some(chat.without_choices(None)),
            Self::Responses(_) => None,
        }
    }

    fn piece(&mut self, piece: Piece) -> Vec<Event> {
        match self {
            Self::Chat(chat) => chat.piece(piece).into_iter().collect(),
            Self::Responses(responses) => responses.piece(piece),
        }
    }

    fn end(&mut self, finish: Finish, usage: Option<Usage>) -> Vec<Event> {
        match self {
            Self::Chat(chat) => chat.end(finish, usage),
            Self::Responses(responses) => responses.end(finish, usage),
        }
    }

    fn failure(&mut self) -> Event {
        match self {
            Self::Chat(_) => Event::unnamed(ApiError::of_status(500).encoded().1),
            Self::Responses(responses) => responses.failure(),
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
        Some(Interruption::Error) => return vec![send(ApiError::of_status(500).encoded().1.into_bytes())],
        Some(Interruption::Stop) => None,
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

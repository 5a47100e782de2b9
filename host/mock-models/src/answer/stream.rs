//! The events of a streamed answer, one frame for each piece. Pure.

use std::time::Duration;
use std::vec::IntoIter;

use super::chat::Chat;
use super::events::{Event, Events};
use super::responses::Responses;
use super::{Act, Frame, Head};
use crate::error::ApiError;
use crate::plan::{Answer, Finish, Interruption, Oddity, Piece, TimedPiece, Usage};
use crate::request::Protocol;

/// A stream of events.
#[derive(Debug)]
pub(super) struct Stream {
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
    pub(super) fn new(answer: Answer, head: Head) -> Self {
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

    pub(super) fn next(&mut self) -> Option<Frame> {
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

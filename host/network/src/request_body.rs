//! The body of a request, whole or in parts as the agent writes them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use wasm_worker_core::network::event::NetworkEvent;
use wasm_worker_core::network::traffic::Traffic;

use crate::failure::{Fault, failure, invalid};
use crate::job::Voice;
use crate::outbox::{Next, Outbox, Part};
use crate::time_limits::Activity;

/// What is given to the connection at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The body of a request.
pub(crate) enum RequestBody {
    /// What is left of one that is there.
    Whole {
        left: Bytes,
        activity: Arc<Activity>,
    },
    Parts(Parts),
}

/// A body in parts.
pub(crate) struct Parts {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) voice: Voice,
    pub(crate) host: String,
    pub(crate) activity: Arc<Activity>,
    pub(crate) left: Left,
}

/// The bytes that are still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    AtMost(u64),
    Exactly(u64),
    /// The end was taken.
    Nothing,
}

impl Left {
    /// What is left after some more bytes.
    fn after(self, bytes: u64) -> Result<Self, Fault> {
        let less = |left: u64| left.checked_sub(bytes);
        match self {
            Self::AtMost(left) => less(left)
                .map(Self::AtMost)
                .ok_or_else(|| Fault(failure("too-large", "the body of the request has more bytes than it may have"))),
            Self::Exactly(left) => less(left).map(Self::Exactly).ok_or_else(|| {
                Fault(invalid("the body of the request has more bytes than its header `content-length` says"))
            }),
            Self::Nothing => Ok(self),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.get_mut() {
            Self::Whole { left, .. } if left.is_empty() => Poll::Ready(None),
            Self::Whole { left, activity } => {
                activity.note();
                let piece = left.split_to(left.len().min(PIECE_BYTES));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Self::Parts(parts) => parts.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { left, .. } => left.is_empty(),
            Self::Parts(parts) => parts.left == Left::Nothing,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { left, .. } => SizeHint::with_exact(left.len() as u64),
            Self::Parts(parts) => match parts.left {
                Left::Exactly(left) => SizeHint::with_exact(left),
                Left::AtMost(_) => SizeHint::default(),
                Left::Nothing => SizeHint::with_exact(0),
            },
        }
    }
}

impl Parts {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.left == Left::Nothing {
            return Poll::Ready(None);
        }
        let sent = ready!(self.outbox.poll_take(context));
        self.activity.note();
        if sent.is_writable {
            self.voice.tell(NetworkEvent::Writable { id: self.voice.id });
        }
        let taken = self.take(sent.next);
        if !matches!(taken, Some(Ok(_))) {
            self.left = Left::Nothing;
        }
        Poll::Ready(taken)
    }

    fn take(&mut self, next: Next) -> Option<Result<Frame<Bytes>, Fault>> {
        match next {
            Next::Part(Part::Body(bytes)) => {
                let length = bytes.len() as u64;
                match self.left.after(length) {
                    Ok(left) => self.left = left,
                    Err(fault) => return Some(Err(fault)),
                }
                self.voice.count(&self.host, Traffic { bytes_sent: length, ..Traffic::default() });
                Some(Ok(Frame::data(bytes.into())))
            }
            Next::End(_) if matches!(self.left, Left::Exactly(left) if left > 0) => {
                let message = "the body of the request has fewer bytes than its header `content-length` says";
                Some(Err(Fault(invalid(message))))
            }
            Next::End(_) => None,
            // A connection whose request is not whole cannot be used again.
            Next::Part(Part::Text(_) | Part::Binary(_)) | Next::Closed => {
                Some(Err(Fault(failure("fault", "the request is given up"))))
            }
        }
    }
}

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
    /// Bytes that may still come, and whether exactly so many have to.
    pub(crate) left: u64,
    pub(crate) is_exact: bool,
    pub(crate) is_over: bool,
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
            Self::Parts(parts) => parts.is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { left, .. } => SizeHint::with_exact(left.len() as u64),
            Self::Parts(parts) if parts.is_exact => SizeHint::with_exact(parts.left),
            Self::Parts(_) => SizeHint::default(),
        }
    }
}

impl Parts {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let sent = ready!(self.outbox.poll_take(context));
        self.activity.note();
        if sent.is_writable {
            self.voice.tell(NetworkEvent::Writable { id: self.voice.id });
        }
        let over = match sent.next {
            Next::Part(Part::Body(bytes)) if bytes.len() as u64 <= self.left => {
                self.left -= bytes.len() as u64;
                let traffic = Traffic { bytes_sent: bytes.len() as u64, ..Traffic::default() };
                self.voice.count(&self.host, traffic);
                return Poll::Ready(Some(Ok(Frame::data(bytes.into()))));
            }
            Next::Part(Part::Body(_)) if self.is_exact => {
                Some(invalid("the body of the request has more bytes than its header `content-length` says"))
            }
            Next::Part(Part::Body(_)) => {
                Some(failure("too-large", "the body of the request has more bytes than it may have"))
            }
            Next::End(_) if self.is_exact && self.left > 0 => {
                Some(invalid("the body of the request has fewer bytes than its header `content-length` says"))
            }
            Next::End(_) => None,
            // A connection whose request is not whole cannot be used again.
            Next::Part(Part::Text(_) | Part::Binary(_)) | Next::Closed => {
                Some(failure("fault", "the request is given up"))
            }
        };
        self.is_over = true;
        Poll::Ready(over.map(|failure| Err(Fault(failure))))
    }
}

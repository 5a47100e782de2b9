//! The body of a request, whose connection is silent while more of it is awaited.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};

use super::places::{Place, Silence};

/// A body that takes its connection for silent while it waits.
pub(super) struct AwaitedBody {
    body: Incoming,
    place: Arc<Place>,
    silence: Option<Silence>,
}

impl AwaitedBody {
    /// The body of a request that is being answered at this place.
    pub(super) fn new(body: Incoming, place: Arc<Place>) -> Self {
        Self { body, place, silence: None }
    }
}

impl HttpBody for AwaitedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_ready() {
            self.silence = None;
        } else if self.silence.is_none() {
            self.silence = Some(Silence::begin(self.place.clone()));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! The frames of an answer as a body, each at its time.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::time::{Instant, sleep_until};

use super::ANSWER_WITHIN;
use crate::answer::{Act, Frame};

/// Time between the last bytes and the break of a connection. The HTTP library sends nothing of an answer whose body fails before
/// it waits once.
const FLUSH: Duration = Duration::from_millis(20);

/// A body of these frames, whose times count from `began`. A client that does not read delays the frames, and none is made before
/// the one before is taken.
pub(super) fn timed(frames: impl Iterator<Item = Frame> + Send + 'static, began: Instant) -> Body {
    let stream = stream::unfold(Some(frames), move |frames| async move {
        let mut frames = frames?;
        let frame = frames.next()?;
        let end = began + ANSWER_WITHIN;
        let at = began.checked_add(frame.at).filter(|at| *at < end);
        match (at, frame.act) {
            (Some(at), Act::Send(bytes)) => {
                sleep_until(at).await;
                Some((Ok(Bytes::from(bytes)), Some(frames)))
            }
            (Some(at), Act::Cut) => {
                sleep_until(at + FLUSH).await;
                Some((Err(io::Error::other("the script breaks the connection")), None))
            }
            (None, _) | (_, Act::Hang) => {
                sleep_until(end).await;
                tracing::info!(target: "mock-models", "an answer takes too long, and its connection breaks");
                Some((Err(io::ErrorKind::TimedOut.into()), None))
            }
        }
    });
    Body::from_stream(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn send(at: Duration) -> Frame {
        Frame { at, act: Act::Send(b"x".to_vec()) }
    }

    /// Number of bytes, or none where the body breaks, and the time until then.
    async fn read(frames: Vec<Frame>) -> (Option<usize>, Duration) {
        let began = Instant::now();
        let read = axum::body::to_bytes(timed(frames.into_iter(), began), usize::MAX).await;
        (read.ok().map(|bytes| bytes.len()), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn each_frame_has_its_time() {
        assert_eq!(read(vec![send(SECOND), send(SECOND * 3)]).await, (Some(2), SECOND * 3));
        let cut = vec![send(SECOND), Frame { at: SECOND * 2, act: Act::Cut }, send(SECOND * 3)];
        assert_eq!(read(cut).await, (None, SECOND * 2 + FLUSH));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_too_long_breaks() {
        let hang = Frame { at: SECOND, act: Act::Hang };
        assert_eq!(read(vec![send(SECOND), hang]).await, (None, ANSWER_WITHIN));
        assert_eq!(read(vec![send(SECOND), send(ANSWER_WITHIN * 2)]).await, (None, ANSWER_WITHIN));
        assert_eq!(read(vec![send(Duration::MAX)]).await, (None, ANSWER_WITHIN));
    }
}

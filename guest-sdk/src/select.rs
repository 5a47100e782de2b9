//! Waiting for one of two futures.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// The output of the future that ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first future ended.
    Left(A),
    /// The second future ended.
    Right(B),
}

/// Waits until one of two futures ends, and drops the other. If both are ready, the first one wins.
///
/// ```no_run
/// use std::time::Duration;
/// use wasm_worker_sdk::{Either, JobContext, select, time::sleep};
///
/// async fn work(ctx: &JobContext) {
///     match select(sleep(Duration::from_secs(5)), ctx.shutdown_requested()).await {
///         Either::Left(()) => log::info!("five seconds passed"),
///         Either::Right(request) => log::info!("asked to stop: {}", request.reason),
///     }
/// }
/// ```
pub async fn select<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx| match a.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Either::Left(output)),
        Poll::Pending => b.as_mut().poll(cx).map(Either::Right),
    })
    .await
}

//! Timers.

use std::time::Duration;

use crate::bindings::wasi::clocks::monotonic_clock;
use crate::{Either, executor, select};

/// Waits for `duration`. A wait of zero shows the host that the agent is responsive.
///
/// ```no_run
/// # async fn example() {
/// wasm_worker_sdk::time::sleep(std::time::Duration::from_millis(20)).await;
/// # }
/// ```
pub async fn sleep(duration: Duration) {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    executor::wait_for(monotonic_clock::subscribe_duration(nanos)).await;
}

/// Waits for `future`, at most for `limit`. When the limit expires, the future is dropped and the result is `None`.
///
/// ```no_run
/// # async fn example(ctx: &wasm_worker_sdk::JobContext) {
/// use std::time::Duration;
/// let caller = wasm_worker_sdk::time::timeout(Duration::from_secs(30), ctx.wait_for_participant(None)).await;
/// # }
/// ```
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    match select(future, sleep(limit)).await {
        Either::Left(output) => Some(output),
        Either::Right(()) => None,
    }
}

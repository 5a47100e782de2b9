//! The time limits of one exchange: all of it, and the silence of the server while it is the server's turn.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use wasm_worker_core::network::event::Failure;

use crate::failure::failure;
use crate::outbox::Outbox;

/// When something last moved.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<Instant>);

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Instant::now())))
    }

    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limits of one exchange.
#[derive(Debug)]
pub(crate) struct TimeLimits {
    pub(crate) until: Instant,
    pub(crate) within: Duration,
    pub(crate) idle: Duration,
    pub(crate) activity: Arc<Activity>,
}

impl TimeLimits {
    /// Wait for something of the server, within both limits. While the agent has to write on, the server may be silent.
    pub(crate) async fn server<T>(
        &self,
        shown: &str,
        agent: Option<&Outbox>,
        waiting: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut waiting = std::pin::pin!(waiting);
        self.activity.note();
        loop {
            let silent_until = self.activity.last() + self.idle;
            tokio::select! {
                // What has come counts, however late the clock is read.
                biased;
                done = &mut waiting => return Ok(done),
                () = sleep_until(silent_until.min(self.until)) => {}
            }
            let now = Instant::now();
            if now >= self.until {
                return Err(self.late(shown));
            }
            if agent.is_some_and(Outbox::waits_for_agent) {
                self.activity.note();
            } else if now >= self.activity.last() + self.idle {
                let idle = self.idle;
                return Err(failure(
                    "timeout",
                    format!("`{shown}` sent nothing for {idle:?}; ask again, or ask another server"),
                ));
            }
        }
    }

    /// Wait for something that is not the server's, within the whole time.
    pub(crate) async fn own<T>(&self, shown: &str, waiting: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::time::timeout_at(self.until, waiting).await.map_err(|_| self.late(shown))
    }

    fn late(&self, shown: &str) -> Failure {
        let within = self.within;
        failure(
            "timeout",
            format!(
                "the exchange with `{shown}` was not over within {within:?}; give the request more time (`timeout`)"
            ),
        )
    }
}

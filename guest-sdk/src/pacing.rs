//! The pace of a writer: it waits for `writable` where much is not sent yet, and for the next step where it made many
//! calls.

use std::time::Duration;

use crate::{executor, time};

/// Number of bytes in one step after which a writer waits until the host has sent most of them.
const UNSENT_MAX: usize = 64 << 10;
/// Number of calls in one step after which a writer goes on in the next one.
const CALLS_MAX: u32 = 1_000;

/// What a writer has written lately.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pacing {
    /// The step of the last part.
    step: u64,
    /// Number of bytes written in that step.
    written: usize,
}

impl Pacing {
    /// Whether `writable` follows, and the writer has to wait for it.
    pub(crate) fn is_full(self) -> bool {
        self.written > UNSENT_MAX
    }

    /// Notes that `writable` came.
    pub(crate) fn note_writable(&mut self) {
        self.written = 0;
    }

    /// Counts the call that wrote this many bytes.
    pub(crate) fn count(&mut self, bytes: usize) {
        executor::count_call();
        let step = executor::this_step().number;
        if std::mem::replace(&mut self.step, step) != step {
            self.written = 0;
        }
        self.written += bytes;
    }
}

/// Waits for the next step, if this one has many calls.
pub(crate) async fn spread_calls() {
    if executor::this_step().calls >= CALLS_MAX {
        time::sleep(Duration::ZERO).await;
    }
}

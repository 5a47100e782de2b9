//! What one job's task shares with those outside it: requests to stop, kills, news, the inbox, the log, and the clock of its
//! runs.
//!
//! One allocation a job. Nothing here waits for a lock that is held across an await.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::bindings::wasm_worker::agent::inbox::Event;
use super::kill::{Kill, Warning};
use super::lock;
use super::log::JobLog;
use super::mailbox::Mailbox;
use super::run_clock::RunClock;
use crate::engine::turns::Turns;

/// Who asked a job to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopBy {
    /// The agent itself.
    Guest,
    /// The server that gave the job.
    Dispatcher,
    /// A drain of the worker.
    Drain,
}

/// Something that the job's supervisor has to hear of.
#[derive(Debug)]
pub(crate) enum News {
    Stop { by: StopBy, reason: String },
    Kill,
    Warning(Warning),
}

/// Shared between a job's task, its host calls, and whoever wants it stopped.
pub(crate) struct Control {
    /// Bounded: one stop, one kill, one warning of each kind.
    news: Mutex<Vec<News>>,
    news_came: Notify,
    kill: Mutex<Option<Kill>>,
    /// Set with `kill`; what the epoch check reads.
    killed: AtomicBool,
    kill_came: Notify,
    log: Mutex<JobLog>,
    /// What the guest said before a trap.
    last_words: Mutex<Option<String>>,
    pub(crate) clock: RunClock,
    pub(crate) turns: Arc<Turns>,
    pub(crate) inbox: Mailbox,
}

impl Control {
    pub(crate) fn new(inbox: Mailbox, log: JobLog, turns: Arc<Turns>) -> Self {
        Self {
            log: Mutex::new(log),
            news: Mutex::default(),
            news_came: Notify::new(),
            kill: Mutex::default(),
            killed: AtomicBool::new(false),
            kill_came: Notify::new(),
            clock: RunClock::default(),
            turns,
            inbox,
            last_words: Mutex::default(),
        }
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, JobLog> {
        lock(&self.log)
    }

    pub(crate) fn set_last_words(&self, words: String) {
        *lock(&self.last_words) = Some(words);
    }

    pub(crate) fn take_last_words(&self) -> Option<String> {
        lock(&self.last_words).take()
    }

    /// Forget what came before a job: its prewarm and its offer.
    pub(crate) fn reset(&self) {
        lock(&self.news).clear();
        lock(&self.last_words).take();
        self.inbox.reset();
        self.clock.reset();
    }

    /// Ask the job to stop. The first request counts.
    pub(crate) fn ask_to_stop(&self, by: StopBy, reason: impl Into<String>) {
        let mut news = lock(&self.news);
        if !news.iter().any(|item| matches!(item, News::Stop { .. })) {
            news.push(News::Stop { by, reason: reason.into() });
            self.news_came.notify_one();
        }
    }

    /// An operator wants the job gone.
    pub(crate) fn kill_by_operator(&self) {
        lock(&self.news).push(News::Kill);
        self.news_came.notify_one();
    }

    /// Tell the operator, and where it concerns a budget the guest.
    pub(crate) fn warn(&self, warning: Warning) {
        if let Warning::Budget(of) = &warning {
            self.inbox.push(Event::LimitWarning(*of));
        }
        lock(&self.news).push(News::Warning(warning));
        self.news_came.notify_one();
    }

    pub(crate) fn take_news(&self) -> Vec<News> {
        std::mem::take(&mut *lock(&self.news))
    }

    pub(crate) async fn news(&self) {
        self.news_came.notified().await;
    }

    /// End the guest where it is: at its next epoch check if it runs, at once if it waits. The first reason counts.
    pub(crate) fn kill(&self, reason: Kill) {
        lock(&self.kill).get_or_insert(reason);
        self.killed.store(true, Ordering::Release);
        self.kill_came.notify_one();
    }

    /// The kill that is due, if any. Cheap where there is none.
    pub(crate) fn check_kill(&self) -> Result<(), Kill> {
        if self.killed.load(Ordering::Acquire) {
            return Err(self.kill_reason());
        }
        Ok(())
    }

    /// Wait for a kill.
    pub(crate) async fn killed(&self) -> Kill {
        while !self.killed.load(Ordering::Acquire) {
            self.kill_came.notified().await;
        }
        self.kill_reason()
    }

    fn kill_reason(&self) -> Kill {
        lock(&self.kill).clone().unwrap_or(Kill::Operator)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Handle;

    use super::*;

    #[tokio::test]
    async fn the_first_stop_and_the_first_kill_count() {
        let control = Control::new(Mailbox::new(1, 1, Handle::current()), JobLog::new("a".into(), 1), Arc::default());
        control.ask_to_stop(StopBy::Drain, "first");
        control.ask_to_stop(StopBy::Guest, "second");
        assert!(matches!(control.take_news().as_slice(), [News::Stop { by: StopBy::Drain, .. }]));
        assert_eq!(control.check_kill(), Ok(()));
        control.kill(Kill::Operator);
        control.kill(Kill::Deadline { limit: Duration::ZERO });
        assert_eq!(control.killed().await, Kill::Operator);
        assert_eq!(control.check_kill(), Err(Kill::Operator));
    }
}

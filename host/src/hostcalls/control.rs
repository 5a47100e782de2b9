//! What one job's task shares with those outside it: requests to stop, kills, news, the inbox, and the clock of its runs.
//!
//! One allocation a job. Nothing here waits for a lock that is held across an await.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::bindings::wasm_worker::agent::inbox::{BudgetKind, Event, LimitWarning};
use super::contract::Participant;
use super::log::JobLog;

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

/// Why the host ended a guest's run by force. Raised inside the guest, so that its backtrace is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Kill {
    #[error("job is unresponsive, killing it: it ran for {ran:?} without waiting, at most {limit:?} is allowed")]
    Unresponsive { ran: Duration, limit: Duration },
    #[error("initialization timed out, killing it: it took longer than {limit:?}")]
    InitTimeout { limit: Duration },
    #[error("`decide` took longer than {limit:?}")]
    DecideTimeout { limit: Duration },
    #[error("the job ran longer than {limit:?}")]
    Deadline { limit: Duration },
    #[error("the job needs {wanted} bytes of memory, at most {limit} are allowed")]
    Memory { wanted: usize, limit: usize },
    #[error("{what}: {wanted}, at most {limit} are allowed")]
    Hostcall { what: &'static str, wanted: usize, limit: usize },
    #[error("too many {what}")]
    TooMany { what: &'static str },
    #[error("the job did not finish within its shutdown grace of {grace:?}")]
    ShutdownTimeout { grace: Duration },
    #[error("killed by the operator")]
    Operator,
}

/// What the operator is told about a job that still runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Warning {
    /// Runs without waiting.
    SlowToYield { ran: Duration },
    /// 80 % of a budget is used.
    Budget(LimitWarning),
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
    pub(crate) inbox: Inbox,
}

impl Control {
    pub(crate) fn new(inbox: Inbox, log: JobLog) -> Self {
        Self {
            log: Mutex::new(log),
            news: Mutex::default(),
            news_came: Notify::new(),
            kill: Mutex::default(),
            killed: AtomicBool::new(false),
            kill_came: Notify::new(),
            clock: RunClock::default(),
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

/// Run time of one job: what it had a core for, by the clock of the thread it was on.
///
/// Written by the job's own task only; atomics because the task's future and its host calls cannot borrow it together.
#[derive(Default)]
pub(crate) struct RunClock {
    /// CPU time of finished polls, in nanoseconds.
    cpu: AtomicU64,
    /// The thread's clock when the present poll began.
    poll_began: AtomicU64,
    /// Wall time of finished polls, in nanoseconds.
    run: AtomicU64,
    /// `cpu()` when the guest last waited.
    waited_at: AtomicU64,
    /// Wall time spent in waits, in nanoseconds.
    waited: AtomicU64,
    /// The operator has been told that this job runs without waiting.
    warned: AtomicBool,
}

impl RunClock {
    pub(crate) fn poll_begins(&self) {
        self.poll_began.store(thread_cpu_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn poll_ends(&self, wall: Duration) {
        let spent = thread_cpu_nanos().saturating_sub(self.poll_began.load(Ordering::Relaxed));
        self.cpu.fetch_add(spent, Ordering::Relaxed);
        self.run.fetch_add(nanos(wall), Ordering::Relaxed);
    }

    /// CPU time so far, the present poll included. Only within a poll.
    fn cpu_now(&self) -> u64 {
        let spent = thread_cpu_nanos().saturating_sub(self.poll_began.load(Ordering::Relaxed));
        self.cpu.load(Ordering::Relaxed) + spent
    }

    /// The guest waits, or has just waited. Only within a poll.
    pub(crate) fn waits(&self, waited: Duration) {
        self.waited.fetch_add(nanos(waited), Ordering::Relaxed);
        self.waited_at.store(self.cpu_now(), Ordering::Relaxed);
    }

    /// A new call into the guest begins, and what ran before it is no part of it.
    pub(crate) fn call_begins(&self) {
        self.waited_at.store(self.cpu.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// True once for each job.
    pub(crate) fn first_warning(&self) -> bool {
        !self.warned.swap(true, Ordering::Relaxed)
    }

    /// Count from zero again. Only between calls.
    pub(crate) fn reset(&self) {
        for counter in [&self.cpu, &self.run, &self.waited_at, &self.waited] {
            counter.store(0, Ordering::Relaxed);
        }
        self.warned.store(false, Ordering::Relaxed);
    }

    /// Run time since the guest last waited. Only within a poll.
    pub(crate) fn since_wait(&self) -> Duration {
        Duration::from_nanos(self.cpu_now().saturating_sub(self.waited_at.load(Ordering::Relaxed)))
    }

    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu.load(Ordering::Relaxed))
    }

    /// CPU time with the present poll. Only within a poll.
    pub(crate) fn cpu_in_poll(&self) -> Duration {
        Duration::from_nanos(self.cpu_now())
    }

    pub(crate) fn run(&self) -> Duration {
        Duration::from_nanos(self.run.load(Ordering::Relaxed))
    }

    pub(crate) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn thread_cpu_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Events for the guest, and who is in the room by them. Bounded in number and bytes: what does not fit is counted, except
/// the request to stop, which always fits.
pub(crate) struct Inbox {
    events: Mutex<VecDeque<Event>>,
    participants: Mutex<BTreeMap<String, Participant>>,
    events_max: usize,
    bytes_max: usize,
    bytes: AtomicUsize,
    dropped: AtomicU64,
    came: Notify,
    pub(crate) timers: Handle,
}

impl Inbox {
    pub(crate) fn new(events_max: usize, bytes_max: usize, timers: Handle) -> Self {
        Self {
            events: Mutex::default(),
            participants: Mutex::default(),
            events_max,
            bytes_max,
            bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            came: Notify::new(),
            timers,
        }
    }

    pub(crate) fn push(&self, event: Event) {
        match &event {
            Event::ParticipantJoined(who) => drop(lock(&self.participants).insert(who.identity.clone(), who.clone())),
            Event::ParticipantLeft(who) => drop(lock(&self.participants).remove(&who.identity)),
            _ => {}
        }
        let must_fit = matches!(event, Event::ShutdownRequested(_));
        let bytes = event_bytes(&event);
        let mut events = lock(&self.events);
        let full = events.len() >= self.events_max || self.bytes() + bytes > self.bytes_max;
        if full && !must_fit {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        events.push_back(event);
        self.came.notify_waiters();
    }

    /// The oldest event, and its bytes.
    pub(crate) fn pop(&self) -> Option<(Event, usize)> {
        let event = lock(&self.events).pop_front()?;
        let bytes = event_bytes(&event);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some((event, bytes))
    }

    /// Those who are in the room when the job begins.
    pub(crate) fn begin_with(&self, participants: Vec<Participant>) {
        *lock(&self.participants) = participants.into_iter().map(|who| (who.identity.clone(), who)).collect();
    }

    /// Everyone who is in the room now.
    pub(crate) fn participants(&self) -> Vec<Participant> {
        lock(&self.participants).values().cloned().collect()
    }

    fn reset(&self) {
        lock(&self.events).clear();
        self.bytes.store(0, Ordering::Relaxed);
        self.dropped.store(0, Ordering::Relaxed);
    }

    pub(crate) async fn wait_for_event(&self) {
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            came.as_mut().enable();
            if !lock(&self.events).is_empty() {
                return;
            }
            came.await;
        }
    }

    /// Bytes that the waiting events take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Events that did not fit.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// What an event takes in host memory, near enough for a budget.
fn event_bytes(event: &Event) -> usize {
    let own = match event {
        Event::ParticipantJoined(who) | Event::ParticipantLeft(who) => participant_bytes(who),
        Event::Text(message) => {
            message.id.len()
                + message.sender.len()
                + message.topic.len()
                + message.text.len()
                + pairs_bytes(&message.attributes)
        }
        Event::Data(message) => {
            message.sender.as_ref().map_or(0, String::len) + message.topic.len() + message.payload.len()
        }
        Event::Rpc(request) => request.id.len() + request.caller.len() + request.method.len() + request.payload.len(),
        Event::AttributesChanged(change) => change.identity.len() + pairs_bytes(&change.changed),
        Event::MetadataChanged(change) => change.identity.as_ref().map_or(0, String::len) + change.metadata.len(),
        Event::Other(other) => other.kind.len() + other.json.len(),
        Event::ShutdownRequested(request) => request.reason.len(),
        Event::LimitWarning(_) => 0,
    };
    own + size_of::<Event>()
}

pub(crate) fn participant_bytes(who: &Participant) -> usize {
    who.sid.len() + who.identity.len() + who.name.len() + who.metadata.len() + pairs_bytes(&who.attributes)
}

pub(crate) fn pairs_bytes(pairs: &[(String, String)]) -> usize {
    pairs.iter().map(|(name, value)| pair_bytes(name, value)).sum()
}

pub(crate) fn pair_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len() + size_of::<(String, String)>()
}

impl BudgetKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Time => "time",
        }
    }
}

/// A panic under a lock cannot leave these small states half changed, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::bindings::wasm_worker::agent::inbox::{ShutdownRequest, TextMessage};
    use super::*;

    fn text() -> Event {
        let text = String::from("hi");
        Event::Text(TextMessage {
            id: String::new(),
            sender: text.clone(),
            topic: text.clone(),
            text,
            attributes: Vec::new(),
            timestamp_ms: 0.0,
        })
    }

    #[tokio::test]
    async fn a_full_inbox_counts_what_it_drops_but_takes_the_request_to_stop() {
        let inbox = Inbox::new(2, 1 << 20, Handle::current());
        (0..5).for_each(|_| inbox.push(text()));
        inbox.push(Event::ShutdownRequested(ShutdownRequest { reason: "drain".into(), grace_ms: 1 }));
        assert_eq!(inbox.dropped(), 3);
        inbox.wait_for_event().await;
        let taken: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
        assert_eq!(taken.len(), 3);
        assert!(matches!(taken.last(), Some((Event::ShutdownRequested(_), _))));
        assert_eq!(inbox.bytes(), 0);
    }

    #[tokio::test]
    async fn an_inbox_is_bounded_in_bytes_too() {
        let inbox = Inbox::new(1_000, 2 * event_bytes(&text()), Handle::current());
        (0..5).for_each(|_| inbox.push(text()));
        assert_eq!(inbox.dropped(), 3);
    }

    #[tokio::test]
    async fn the_first_stop_and_the_first_kill_count() {
        let control = Control::new(Inbox::new(1, 1, Handle::current()), JobLog::new("a".into(), 1));
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

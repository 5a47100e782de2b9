//! What stands between the events and one place that they go to: a queue, and a thread that empties it.
//!
//! Bounds: [`QUEUE_LINES`] lines wait, of [`QUEUE_BYTES`] in all, what does not fit is dropped and counted; at the end the queue is
//! emptied for at most [`FLUSH_WITHIN`], and a place that still does not return is cut off, and left where it is after
//! [`CUT_WITHIN`].

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lines that wait for a slow place before more are dropped.
const QUEUE_LINES: usize = 16_384;
const QUEUE_BYTES: u64 = 64 << 20;
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
const CUT_WITHIN: Duration = Duration::from_secs(1);
/// How often a full queue is tried again at the end.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A place that lines go to. It may take its time.
pub(crate) trait Place: Send + 'static {
    /// Take one line, without its end.
    fn take(&mut self, line: &str) -> Result<(), String>;

    /// There is nothing more for now.
    fn flush(&mut self) -> Result<(), String>;

    /// What makes a call return that has not done so, from another thread.
    fn cut(&self) -> Option<Cut> {
        None
    }
}

pub(crate) type Cut = Box<dyn Fn() + Send + Sync>;

/// One place with its queue. Closing it passes on what is queued.
pub(crate) struct Sink {
    name: &'static str,
    queue: SyncSender<Item>,
    shared: Arc<Shared>,
    cut: Option<Cut>,
    /// Hears of the thread's end; nothing comes when it has panicked.
    ended: Mutex<Receiver<()>>,
}

enum Item {
    Line(Arc<str>),
    /// Nothing comes after it.
    End,
}

#[derive(Default)]
struct Shared {
    dropped: AtomicU64,
    failed: AtomicU64,
    /// Lines that are queued, or being taken.
    waiting: AtomicU64,
    waiting_bytes: AtomicU64,
    /// When what is queued is dropped, once the sink is being closed.
    closing: OnceLock<Instant>,
}

impl Shared {
    /// A line waits; the bytes of those before it.
    fn begin(&self, bytes: usize) -> u64 {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_add(bytes as u64, Ordering::Relaxed)
    }

    fn end(&self, bytes: usize) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

impl Sink {
    pub(crate) fn start(name: &'static str, place: impl Place) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let (tell, ended) = channel();
        let shared = Arc::new(Shared::default());
        let (cut, for_thread) = (place.cut(), shared.clone());
        std::thread::Builder::new().name(format!("events-{name}")).spawn(move || {
            pass_on(name, place, &lines, &for_thread);
            // Nobody need wait for it.
            tell.send(()).ok();
        })?;
        Ok(Self { name, queue, shared, cut, ended: Mutex::new(ended) })
    }

    pub(crate) fn send(&self, line: Arc<str>) {
        let bytes = line.len();
        let before = self.shared.begin(bytes);
        let fits = before <= QUEUE_BYTES && self.shared.closing.get().is_none();
        if !fits || self.queue.try_send(Item::Line(line)).is_err() {
            self.shared.end(bytes);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The name, the lines that did not fit, and those that the place did not take.
    pub(crate) fn losses(&self) -> (&'static str, u64, u64) {
        let Shared { dropped, failed, .. } = &*self.shared;
        (self.name, dropped.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }

    /// Take no more, pass on what is queued, and say what was lost. The second time there is nothing to do.
    pub(crate) fn close(&self) {
        let deadline = Instant::now() + FLUSH_WITHIN;
        if self.shared.closing.set(deadline).is_err() {
            return;
        }
        if !self.wait_for_the_end(deadline) {
            // What has not been passed on by now never will be.
            let left = self.shared.waiting.load(Ordering::Relaxed);
            self.shared.dropped.fetch_add(left, Ordering::Relaxed);
        }
        let (sink, dropped, failed) = self.losses();
        if dropped + failed > 0 {
            tracing::error!(target: "host", sink, dropped, failed, "events were lost: the sink was too slow, full or gone");
        }
    }

    /// Whether the thread has ended.
    fn wait_for_the_end(&self, deadline: Instant) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut told, mut cut) = (false, self.cut.as_ref());
        loop {
            told = told || self.queue.try_send(Item::End).is_ok();
            match ended.recv_timeout(LOOK_EVERY) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Disconnected) => {
                    tracing::error!(target: "host", sink = self.name, "the event writer panicked");
                    return false;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if now >= deadline
                && let Some(cut) = cut.take()
            {
                cut();
            }
            if now >= deadline + CUT_WITHIN {
                return false;
            }
        }
    }
}

/// Goes on after a failure, because a full disk may have room again, and a server may come back.
fn pass_on(name: &'static str, mut place: impl Place, lines: &Receiver<Item>, shared: &Shared) {
    let mut failing = false;
    let mut over = false;
    while !over && let Ok(Item::Line(line)) = lines.recv() {
        let queued = lines.try_iter().map_while(|item| match item {
            Item::Line(line) => Some(line),
            Item::End => {
                over = true;
                None
            }
        });
        let passed = std::iter::once(line).chain(queued).try_for_each(|line| {
            let taken = match shared.closing.get() {
                Some(deadline) if *deadline <= Instant::now() => {
                    shared.dropped.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                _ => place.take(&line),
            };
            shared.end(line.len());
            taken
        });
        match passed.and_then(|()| place.flush()) {
            Ok(()) if failing => {
                failing = false;
                tracing::info!(target: "host", sink = name, "events are taken again");
            }
            Ok(()) => {}
            Err(error) => {
                shared.failed.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(target: "host", sink = name, error, "writing events failed; trying on");
                }
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes a line when the test says so.
    struct Slow {
        go: mpsc::Receiver<Result<(), String>>,
        taken: mpsc::Sender<String>,
    }

    impl Place for Slow {
        fn take(&mut self, line: &str) -> Result<(), String> {
            self.go.recv().unwrap()?;
            self.taken.send(line.to_owned()).map_err(|error| error.to_string())
        }

        fn flush(&mut self) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_place_holds_nobody_up_and_what_it_misses_is_counted() {
        let (go, said) = mpsc::channel();
        let (taken, heard) = mpsc::channel();
        let sink = Sink::start("test", Slow { go: said, taken }).unwrap();
        // One is in the hands of the thread, and the queue is full behind it.
        for number in 0..QUEUE_LINES + 10 {
            sink.send(number.to_string().into());
        }
        let (_, dropped, failed) = sink.losses();
        assert!((8..=10).contains(&dropped) && failed == 0, "{dropped} {failed}");
        go.send(Err("no".into())).unwrap();
        for _ in 0..QUEUE_LINES {
            go.send(Ok(())).unwrap();
        }
        assert_eq!(heard.recv().unwrap(), "1");
        let shared = sink.shared.clone();
        drop(sink);
        assert_eq!(shared.failed.load(Ordering::Relaxed), 1);
    }

    /// Panics over the second line.
    struct Buggy(mpsc::Sender<String>);

    impl Place for Buggy {
        fn take(&mut self, line: &str) -> Result<(), String> {
            assert_ne!(line, "2", "injected");
            self.0.send(line.to_owned()).map_err(|error| error.to_string())
        }

        fn flush(&mut self) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_place_that_panics_costs_its_lines_and_nobody_else() {
        let (taken, heard) = mpsc::channel();
        let sink = Sink::start("test", Buggy(taken)).unwrap();
        (1..=3).for_each(|number: u32| sink.send(number.to_string().into()));
        assert_eq!(heard.recv().unwrap(), "1");
        assert!(heard.recv().is_err(), "its thread is gone");
        sink.send("4".into());
        let began = Instant::now();
        sink.close();
        assert!(began.elapsed() < FLUSH_WITHIN, "there is nothing to wait for");
        assert_eq!(sink.losses().1, 3, "2, 3 and 4 were lost, and that is known");
    }

    /// Takes nothing until it is cut off.
    struct Stuck {
        cut: Arc<Mutex<Option<mpsc::Sender<()>>>>,
        wait: mpsc::Receiver<()>,
    }

    impl Place for Stuck {
        fn take(&mut self, _: &str) -> Result<(), String> {
            self.wait.recv().map_err(|error| error.to_string())
        }

        fn flush(&mut self) -> Result<(), String> {
            Ok(())
        }

        fn cut(&self) -> Option<Cut> {
            let cut = self.cut.clone();
            Some(Box::new(move || drop(cut.lock().unwrap().take())))
        }
    }

    #[test]
    fn a_place_that_takes_nothing_is_cut_off_at_the_end_and_all_is_counted() {
        let (hold, wait) = mpsc::channel();
        let sink = Sink::start("test", Stuck { cut: Arc::new(Mutex::new(Some(hold))), wait }).unwrap();
        for _ in 0..QUEUE_LINES + 10 {
            sink.send("line".into());
        }
        let began = Instant::now();
        sink.close();
        let took = began.elapsed();
        assert!(took >= FLUSH_WITHIN && took < FLUSH_WITHIN + CUT_WITHIN, "{took:?}");
        let (_, dropped, failed) = sink.losses();
        assert_eq!((dropped + failed, failed), (QUEUE_LINES as u64 + 10, 1));
        sink.send("late".into());
        assert_eq!(sink.losses().1, dropped + 1);
    }
}

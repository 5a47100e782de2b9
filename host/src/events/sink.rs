//! What stands between the events and one place that they go to: a queue, and a thread that empties it.
//!
//! Bounds: [`QUEUE_LINES`] lines wait, what does not fit is dropped and counted; at the end the queue is emptied for at most
//! [`FLUSH_WITHIN`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

/// Lines that wait for a slow place before more are dropped.
const QUEUE_LINES: usize = 16_384;
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// A place that lines go to. It may take its time.
pub(super) trait Place: Send + 'static {
    /// Take one line, without its end.
    fn take(&mut self, line: &str) -> Result<(), String>;

    /// There is nothing more for now.
    fn flush(&mut self) -> Result<(), String>;
}

/// One place with its queue. Dropping it passes on what is queued.
pub(super) struct Sink {
    name: &'static str,
    queue: Option<SyncSender<Arc<str>>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    dropped: AtomicU64,
    failed: AtomicU64,
    closing: AtomicBool,
}

impl Sink {
    pub(super) fn start(name: &'static str, place: impl Place) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let shared = Arc::new(Shared::default());
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new().name(format!("events-{name}"));
        let thread = thread.spawn(move || pass_on(name, place, &lines, &for_thread))?;
        Ok(Self { name, queue: Some(queue), shared, thread: Some(thread) })
    }

    pub(super) fn send(&self, line: Arc<str>) {
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(line).is_err()) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The name, the lines that did not fit, and those that the place did not take.
    pub(super) fn losses(&self) -> (&'static str, u64, u64) {
        let Shared { dropped, failed, .. } = &*self.shared;
        (self.name, dropped.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }
}

/// Goes on after a failure, because a full disk may have room again, and a server may come back.
fn pass_on(name: &'static str, mut place: impl Place, lines: &Receiver<Arc<str>>, shared: &Shared) {
    let mut failing = false;
    let mut deadline = None;
    while let Ok(line) = lines.recv() {
        let mut batch = std::iter::once(line).chain(lines.try_iter());
        let passed = batch.try_for_each(|line| {
            if shared.closing.load(Ordering::Relaxed)
                && *deadline.get_or_insert_with(|| Instant::now() + FLUSH_WITHIN) <= Instant::now()
            {
                shared.dropped.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            place.take(&line)
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
        self.shared.closing.store(true, Ordering::Relaxed);
        drop(self.queue.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(target: "host", sink = self.name, "the event writer panicked");
        }
        let (sink, dropped, failed) = self.losses();
        if dropped + failed > 0 {
            tracing::error!(target: "host", sink, dropped, failed, "events were lost: the sink was too slow, full or gone");
        }
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
        drop(go);
        drop(sink);
        assert_eq!(shared.failed.load(Ordering::Relaxed), 1);
    }
}

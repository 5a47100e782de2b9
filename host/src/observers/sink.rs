//! The queue of a sink, and the thread that empties it.
//!
//! Bounds: [`QUEUE_LINES`] lines of [`QUEUE_BYTES`] in all wait; further lines are dropped and counted. At the end, the queue is
//! emptied for at most [`FLUSH_WITHIN`]. A sink that does not return then is cut off, and abandoned after [`CUT_WITHIN`].

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lines that wait for a slow sink before further ones are dropped.
const QUEUE_LINES: usize = 16_384;
const QUEUE_BYTES: u64 = 64 << 20;
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
const CUT_WITHIN: Duration = Duration::from_secs(1);
/// The interval of the attempts to put the end into a full queue.
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// The destination of lines. Its calls may block.
pub(crate) trait EventSink: Send + 'static {
    /// Write one line, which has no line end.
    fn write(&mut self, line: &str) -> Result<(), String>;

    /// Write what is buffered. To be called when the queue is empty.
    fn flush(&mut self) -> Result<(), String>;

    /// Open the destination again, where that means something.
    fn reopen(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// A function that makes a blocked call return. Another thread calls it.
    fn cut(&self) -> Option<Cut> {
        None
    }
}

/// Makes a blocked call of a sink return.
pub(crate) type Cut = Box<dyn Fn() + Send + Sync>;

/// The queue of one sink. Closing it writes the queued lines.
pub(crate) struct Sink {
    name: &'static str,
    queue: SyncSender<QueueItem>,
    counters: Arc<SinkCounters>,
    cut: Option<Cut>,
    /// Receives the end of the thread; disconnected when the thread panicked.
    ended: Mutex<Receiver<()>>,
}

/// An item of the queue.
enum QueueItem {
    Line(Arc<str>),
    /// Nothing to write: the thread looks at the counters.
    Wake,
    /// The last item.
    End,
}

/// The counters that the callers and the thread share.
#[derive(Default)]
struct SinkCounters {
    dropped: AtomicU64,
    failed: AtomicU64,
    /// Lines that are queued or being written.
    waiting: AtomicU64,
    waiting_bytes: AtomicU64,
    /// Whether the destination is to be opened again.
    reopen: AtomicBool,
    /// The moment from which queued lines are dropped; set when the sink is closed.
    closing: OnceLock<Instant>,
}

impl SinkCounters {
    /// Count a line as waiting, and return the bytes of the lines before it.
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
    /// Start the thread of a sink.
    pub(crate) fn start(name: &'static str, destination: impl EventSink) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let (end, ended) = channel();
        let counters = Arc::new(SinkCounters::default());
        let (cut, for_thread) = (destination.cut(), counters.clone());
        std::thread::Builder::new().name(format!("events-{name}")).spawn(move || {
            write_all(name, destination, &lines, &for_thread);
            // The receiver may be gone.
            end.send(()).ok();
        })?;
        Ok(Self { name, queue, counters, cut, ended: Mutex::new(ended) })
    }

    /// Queue a line. Never waits: a line that does not fit is dropped and counted.
    pub(crate) fn send(&self, line: Arc<str>) {
        let bytes = line.len();
        let before = self.counters.begin(bytes);
        let fits = before <= QUEUE_BYTES && self.counters.closing.get().is_none();
        if !fits || self.queue.try_send(QueueItem::Line(line)).is_err() {
            self.counters.end(bytes);
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Open the destination again before the next line.
    pub(crate) fn reopen(&self) {
        self.counters.reopen.store(true, Ordering::Relaxed);
        // In a full queue there is a line that wakes the thread.
        self.queue.try_send(QueueItem::Wake).ok();
    }

    /// The name of the sink, the lines that were dropped, and the lines that could not be written.
    pub(crate) fn losses(&self) -> (&'static str, u64, u64) {
        let SinkCounters { dropped, failed, .. } = &*self.counters;
        (self.name, dropped.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }

    /// Accept no more lines, write the queued ones, and log how many were lost. A second call does nothing.
    pub(crate) fn close(&self) {
        let deadline = Instant::now() + FLUSH_WITHIN;
        if self.counters.closing.set(deadline).is_err() {
            return;
        }
        if !self.wait_for_the_end(deadline) {
            // The lines that still wait will not be written.
            let left = self.counters.waiting.load(Ordering::Relaxed);
            self.counters.dropped.fetch_add(left, Ordering::Relaxed);
        }
        let (sink, dropped, failed) = self.losses();
        if dropped + failed > 0 {
            tracing::error!(target: "host", sink, dropped, failed, "events were lost: the sink was too slow, full or closed");
        }
    }

    /// Whether the thread has ended.
    fn wait_for_the_end(&self, deadline: Instant) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut queued, mut cut) = (false, self.cut.as_ref());
        loop {
            queued = queued || self.queue.try_send(QueueItem::End).is_ok();
            match ended.recv_timeout(RETRY_EVERY) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Disconnected) => {
                    tracing::error!(target: "host", sink = self.name, "the thread of an event sink panicked");
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

/// Write lines until the last item. A failure does not end it: a full disk may have space again, and a server may return.
fn write_all(
    name: &'static str,
    mut destination: impl EventSink,
    lines: &Receiver<QueueItem>,
    counters: &SinkCounters,
) {
    let mut failing = false;
    let mut over = false;
    while !over && let Ok(first) = lines.recv() {
        if counters.reopen.swap(false, Ordering::Relaxed)
            && let Err(error) = destination.reopen()
        {
            tracing::error!(target: "host", sink = name, error, "the event file cannot be opened again");
        }
        let queued = std::iter::once(first).chain(lines.try_iter()).map_while(|item| match item {
            QueueItem::Line(line) => Some(Some(line)),
            QueueItem::Wake => Some(None),
            QueueItem::End => {
                over = true;
                None
            }
        });
        let written = queued.flatten().try_for_each(|line| {
            let result = match counters.closing.get() {
                Some(deadline) if *deadline <= Instant::now() => {
                    counters.dropped.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                _ => destination.write(&line),
            };
            counters.end(line.len());
            result
        });
        match written.and_then(|()| destination.flush()) {
            Ok(()) if failing => {
                failing = false;
                tracing::info!(target: "host", sink = name, "events can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(target: "host", sink = name, error, "events cannot be written; the sink tries again with the next event");
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

    /// Writes a line when the test allows it.
    struct Slow {
        go: mpsc::Receiver<Result<(), String>>,
        written: mpsc::Sender<String>,
    }

    impl EventSink for Slow {
        fn write(&mut self, line: &str) -> Result<(), String> {
            self.go.recv().unwrap()?;
            self.written.send(line.to_owned()).map_err(|error| error.to_string())
        }

        fn flush(&mut self) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_sink_blocks_no_caller_and_its_dropped_lines_are_counted() {
        let (go, allowed) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let sink = Sink::start("test", Slow { go: allowed, written }).unwrap();
        // The thread holds one line, and the queue behind it is full.
        for number in 0..QUEUE_LINES + 10 {
            sink.send(number.to_string().into());
        }
        let (_, dropped, failed) = sink.losses();
        assert!((8..=10).contains(&dropped) && failed == 0, "{dropped} {failed}");
        go.send(Err("no".into())).unwrap();
        for _ in 0..QUEUE_LINES {
            go.send(Ok(())).unwrap();
        }
        assert_eq!(lines.recv().unwrap(), "1");
        let counters = sink.counters.clone();
        drop(sink);
        assert_eq!(counters.failed.load(Ordering::Relaxed), 1);
    }

    /// Panics at the second line.
    struct Buggy(mpsc::Sender<String>);

    impl EventSink for Buggy {
        fn write(&mut self, line: &str) -> Result<(), String> {
            assert_ne!(line, "2", "injected");
            self.0.send(line.to_owned()).map_err(|error| error.to_string())
        }

        fn flush(&mut self) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_panics_loses_its_lines_only() {
        let (written, lines) = mpsc::channel();
        let sink = Sink::start("test", Buggy(written)).unwrap();
        (1..=3).for_each(|number: u32| sink.send(number.to_string().into()));
        assert_eq!(lines.recv().unwrap(), "1");
        assert!(lines.recv().is_err(), "the thread has ended");
        sink.send("4".into());
        let began = Instant::now();
        sink.close();
        assert!(began.elapsed() < FLUSH_WITHIN, "nothing is left to wait for");
        assert_eq!(sink.losses().1, 3, "the lines 2, 3 and 4 are counted as lost");
    }

    /// Blocks until it is cut off.
    struct Stuck {
        cut: Arc<Mutex<Option<mpsc::Sender<()>>>>,
        wait: mpsc::Receiver<()>,
    }

    impl EventSink for Stuck {
        fn write(&mut self, _: &str) -> Result<(), String> {
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
    fn a_sink_that_blocks_is_cut_off_at_the_end_and_all_lines_are_counted() {
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

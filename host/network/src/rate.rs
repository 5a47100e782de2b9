//! The bytes a second of all connections of an agent, in both directions together.
//!
//! A connection that finds nothing left reserves a piece, and waits for it. Reservations are served in their order, so that no
//! connection of the agent starves another one. Each agent has a rate of its own, so agents do not wait for each other.
//!
//! Bounds: a connection reserves one piece for each direction, and moves at most one piece at a time.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The part of a second whose bytes may go at once after a rest.
const BURST_PART: u64 = 4;
/// The sizes of a piece, in bytes.
const PIECE_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=32 << 10;

/// Longest wait for a piece, in seconds: more than any exchange lasts.
const WAIT_SECONDS_MAX: f64 = 86_400.0;

/// The rate of one agent.
#[derive(Debug)]
pub(crate) struct Rate {
    bucket: Mutex<Bucket>,
    /// Most bytes that are moved at a time.
    piece: usize,
}

impl Rate {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        let burst = bytes_per_second / BURST_PART;
        let piece = burst.clamp(*PIECE_BYTES.start(), *PIECE_BYTES.end());
        let bucket = Mutex::new(Bucket::new(bytes_per_second, burst.max(piece), Instant::now()));
        Self { bucket, piece: usize::try_from(piece).unwrap_or(usize::MAX) }
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        // No code that can panic runs under this lock.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes that may be moved now. Fewer than none while some are reserved. Pure.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    most: f64,
    left: f64,
    filled: Instant,
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
impl Bucket {
    fn new(per_second: u64, most: u64, now: Instant) -> Self {
        Self { per_second: per_second.max(1) as f64, most: most as f64, left: most as f64, filled: now }
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + since * self.per_second).min(self.most);
        self.filled = now;
    }

    /// Whether bytes may be moved now. Otherwise a piece is reserved, and this is the time at which it is there.
    fn turn(&mut self, now: Instant, piece: usize) -> Option<Instant> {
        self.fill(now);
        if self.left > 0.0 {
            return None;
        }
        self.left -= piece as f64;
        Some(now + Duration::from_secs_f64((-self.left / self.per_second).min(WAIT_SECONDS_MAX)))
    }

    fn spend(&mut self, bytes: usize) {
        self.left -= bytes as f64;
    }

    fn give_back(&mut self, bytes: usize) {
        self.left += bytes as f64;
    }
}

/// A connection whose bytes count for a rate; for none, it is as it was.
pub(crate) struct Metered<S> {
    stream: S,
    rate: Option<Arc<Rate>>,
    reading: Turn,
    writing: Turn,
}

/// The turn of one direction.
#[derive(Debug, Default)]
enum Turn {
    /// None is needed, as far as is known.
    #[default]
    Open,
    /// A piece is reserved, and is there at this time.
    Waits(Pin<Box<Sleep>>),
    /// A piece is there.
    Has,
}

impl Turn {
    /// Ready with whether a piece is reserved for what is moved now.
    fn poll(&mut self, rate: &Rate, context: &mut Context<'_>) -> Poll<bool> {
        loop {
            match self {
                Self::Has => return Poll::Ready(true),
                Self::Waits(sleep) => {
                    std::task::ready!(sleep.as_mut().poll(context));
                    *self = Self::Has;
                }
                Self::Open => match rate.bucket().turn(Instant::now(), rate.piece) {
                    None => return Poll::Ready(false),
                    Some(at) => *self = Self::Waits(Box::pin(sleep_until(at))),
                },
            }
        }
    }

    /// So many bytes were moved in this turn.
    fn end(&mut self, rate: &Rate, bytes: usize) {
        match std::mem::take(self) {
            Self::Open => rate.bucket().spend(bytes),
            Self::Has | Self::Waits(_) => rate.bucket().give_back(rate.piece.saturating_sub(bytes)),
        }
    }
}

impl<S> Metered<S> {
    pub(crate) const fn new(stream: S, rate: Option<Arc<Rate>>) -> Self {
        Self { stream, rate, reading: Turn::Open, writing: Turn::Open }
    }
}

impl<S> Drop for Metered<S> {
    fn drop(&mut self) {
        if let Some(rate) = &self.rate {
            self.reading.end(rate, 0);
            self.writing.end(rate, 0);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, rate, reading, .. } = self.get_mut();
        let Some(rate) = rate else { return Pin::new(stream).poll_read(context, buffer) };
        std::task::ready!(reading.poll(rate, context));
        let piece = rate.piece.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(piece));
        let read = Pin::new(stream).poll_read(context, &mut part);
        let bytes = part.filled().len();
        buffer.advance(bytes);
        reading.end(rate, bytes);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, rate, writing, .. } = self.get_mut();
        let Some(rate) = rate else { return Pin::new(stream).poll_write(context, bytes) };
        std::task::ready!(writing.poll(rate, context));
        let piece = bytes.get(..rate.piece).unwrap_or(bytes);
        let written = Pin::new(stream).poll_write(context, piece);
        writing.end(rate, if let Poll::Ready(Ok(count)) = &written { *count } else { 0 });
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinSet;

    use super::*;

    const KIB: usize = 1 << 10;

    /// A connection at this rate, and its server.
    fn connection(rate: &Arc<Rate>) -> (Metered<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(1 << 20);
        (Metered::new(ours, Some(rate.clone())), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_both_directions_take_their_time() {
        let rate = Arc::new(Rate::new(64 << 10));
        let (mut ours, mut theirs) = connection(&rate);
        let began = Instant::now();
        theirs.write_all(&[7; 320 * KIB]).await.unwrap();
        let mut read = vec![0; 320 * KIB];
        ours.read_exact(&mut read).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 7));
        ours.write_all(&[8; 320 * KIB]).await.unwrap();
        // 640 KiB, a quarter of a second at once.
        let took = began.elapsed().as_secs_f64();
        assert!((9.4..10.1).contains(&took), "{took}");
        // After a rest a quarter of a second goes at once, and no more.
        tokio::time::advance(Duration::from_secs(60)).await;
        let began = Instant::now();
        ours.write_all(&[8; 16 * KIB]).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        ours.write_all(&[8; 64 * KIB]).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_an_agent_share_its_rate_evenly() {
        let rate = Arc::new(Rate::new(64 << 10));
        let began = Instant::now();
        let (mut tasks, mut servers) = (JoinSet::new(), Vec::new());
        for _ in 0..8 {
            let (mut ours, theirs) = connection(&rate);
            servers.push(theirs);
            tasks.spawn(async move {
                ours.write_all(&[1; 64 * KIB]).await.unwrap();
                began.elapsed()
            });
        }
        let mut ends = tasks.join_all().await;
        ends.sort();
        // 512 KiB in all, and a piece for each in turn. One began with what goes at once.
        let [first, .., last] = ends[..] else { panic!("{ends:?}") };
        assert!(first >= Duration::from_secs(4) && ends[1] > Duration::from_millis(5_500), "{ends:?}");
        assert!(last < Duration::from_millis(8_500), "{ends:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_gives_its_piece_back_and_others_do_not_wait_for_silence() {
        let rate = Arc::new(Rate::new(64 << 10));
        let (mut busy, _server) = connection(&rate);
        busy.write_all(&[1; 64 * KIB]).await.unwrap();
        rate.bucket().spend(KIB);
        let left = |rate: &Rate| rate.bucket().left;
        // Nobody sends to these, and they wait for their turn to read.
        let mut silent: Vec<_> = (0..10).map(|_| connection(&rate)).collect();
        for (ours, _) in &mut silent {
            let reading = std::future::poll_fn(|context| {
                let mut buffer = [0; 8];
                Poll::Ready(Pin::new(&mut *ours).poll_read(context, &mut ReadBuf::new(&mut buffer)).is_pending())
            });
            assert!(reading.await);
        }
        let reserved = left(&rate);
        drop(silent);
        assert!(left(&rate) >= reserved + 9.0 * 16.0 * 1024.0, "{reserved}");
        // Another agent has its own rate, and one without a limit is as it was.
        let (mut other, _server) = connection(&Arc::new(Rate::new(64 << 10)));
        let began = Instant::now();
        other.write_all(&[1; 8 * KIB]).await.unwrap();
        let (ours, _theirs) = duplex(1 << 20);
        Metered::new(ours, None).write_all(&[1; 1 << 20]).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_rate_of_any_size_has_a_time_for_each_piece() {
        let now = Instant::now();
        for per_second in [0, 1, 1 << 10, u64::MAX] {
            let mut bucket = Bucket::new(per_second, 1 << 10, now);
            bucket.spend(usize::MAX);
            assert!(bucket.turn(now, 32 << 10).is_some_and(|at| at > now), "{per_second}");
        }
    }
}

//! A piece of a heard track on its way to the agent. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A piece of sound that has no gap inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// When its first sample was heard.
    pub(super) at: Instant,
    /// Whether it begins where the block before it ended.
    pub(super) follows: bool,
    pub(super) samples: Vec<i16>,
    pub(super) origin: Origin,
}

/// Where a piece of sound comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A packet.
    Packet,
    /// It was made up for a packet that did not come.
    MadeUp,
}

impl Block {
    /// When the block ends.
    pub(super) fn end(&self, rate: u32) -> Instant {
        after(self.at, time_of(self.samples.len(), rate))
    }

    /// Take away all but the first samples. `None` where there are no more.
    pub(super) fn split_off(&mut self, count: usize, rate: u32) -> Option<Self> {
        if count >= self.samples.len() {
            return None;
        }
        let samples = self.samples.split_off(count);
        let at = after(self.at, time_of(count, rate));
        Some(Self { at, follows: true, samples, origin: self.origin })
    }

    /// The memory of the samples.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.samples.len() * size_of::<i16>()
    }
}

/// The length of so many samples.
pub(super) fn time_of(samples: usize, rate: u32) -> Duration {
    let nanoseconds = u64::try_from(samples).unwrap_or(u64::MAX).saturating_mul(1_000_000_000) / u64::from(rate.max(1));
    Duration::from_nanos(nanoseconds)
}

/// The number of whole samples in a time.
pub(super) fn samples_in(time: Duration, rate: u32) -> usize {
    usize::try_from(time.as_nanos().saturating_mul(rate.into()) / 1_000_000_000).unwrap_or(usize::MAX)
}

/// A time later than another.
pub(super) fn after(at: Instant, time: Duration) -> Instant {
    at.checked_add(time).unwrap_or(at)
}

/// A time earlier than another.
pub(super) fn before(at: Instant, time: Duration) -> Instant {
    at.checked_sub(time).unwrap_or(at)
}

//! The clock of a published track: one tick each 20 ms while something is to be sent. Pure.
//!
//! After a stall the ticks that passed are left out: nothing is sent in a burst, and the time of what is sent is that of the clock.

use std::time::Duration;

use tokio::time::Instant;

use super::block::after;
use super::toc::TICKS_IN_SECOND;

/// The time of one frame.
pub(super) const FRAME: Duration = Duration::from_millis(20);

/// The ticks of one track.
#[derive(Debug)]
pub(super) struct Pacer {
    began: Instant,
    /// When the next tick is due, while it runs.
    due: Option<Instant>,
    /// The earliest time of a tick.
    earliest: Instant,
}

/// A tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    /// The time that it is for.
    pub(super) at: Instant,
    /// The same in 1/48,000 s from the beginning.
    pub(super) time: u64,
    /// Time since a tick was due: since the first of those that were left out.
    pub(super) late_by: Duration,
    /// Ticks before it that were left out.
    pub(super) left_out: u64,
}

impl Pacer {
    /// A clock that does not run.
    pub(super) const fn new(now: Instant) -> Self {
        Self { began: now, due: None, earliest: now }
    }

    /// Run, from now on.
    pub(super) fn start(&mut self, now: Instant) {
        self.due.get_or_insert(now.max(self.earliest));
    }

    /// Stop; a later start begins no earlier than the tick that is due.
    pub(super) fn stop(&mut self) {
        self.earliest = self.due.take().unwrap_or(self.earliest);
    }

    /// When a tick is due.
    pub(super) const fn wake_at(&self) -> Option<Instant> {
        self.due
    }

    /// The tick that is due.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Tick> {
        let due = self.due.filter(|due| *due <= now)?;
        let late_by = now - due;
        let left_out = late_by.as_nanos() / FRAME.as_nanos();
        let rest = Duration::from_nanos(u64::try_from(late_by.as_nanos() % FRAME.as_nanos()).unwrap_or_default());
        let at = now.checked_sub(rest).unwrap_or(due);
        self.due = Some(after(at, FRAME));
        let ticks = (at - self.began).as_nanos() * u128::from(TICKS_IN_SECOND) / 1_000_000_000;
        let [left_out, time] = [left_out, ticks].map(|number| u64::try_from(number).unwrap_or(u64::MAX));
        Some(Tick { at, time, late_by, left_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_in_time_and_never_come_in_a_burst() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        assert_eq!(pacer.tick(start), None);
        pacer.start(start + ms(5));
        for i in 0..100 {
            let at = start + ms(5) + FRAME * i;
            let late_by = ms(u64::from(i) % 10);
            let tick = pacer.tick(at + late_by).unwrap();
            assert_eq!(tick, Tick { at, time: 240 + 960 * u64::from(i), late_by, left_out: 0 });
            assert_eq!(pacer.tick(at + late_by), None);
        }
        // Two thirds of a second without the processor.
        let stall = start + ms(5) + FRAME * 133 + ms(7);
        let tick = pacer.tick(stall).unwrap();
        assert_eq!((tick.left_out, tick.late_by, tick.time), (33, ms(667), 240 + 960 * 133));
        assert_eq!((pacer.tick(stall), pacer.wake_at()), (None, Some(start + ms(5) + FRAME * 134)));
        // A break that is shorter than a frame does not bring ticks closer together.
        pacer.stop();
        pacer.start(stall);
        assert_eq!(pacer.wake_at(), Some(start + ms(5) + FRAME * 134));
    }
}

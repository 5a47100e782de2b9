//! When sound was heard: the sender's time mapped to the host's clock. Pure.
//!
//! Sound counts as heard when it would have come on the fastest way: the least delay of the last seconds. The delay of single packets
//! does therefore not show. Within sound that has no gap the mapping moves only slowly: forward by at most 1/1,000, which follows clocks
//! that drift, and back by at most 1/20, which corrects a beginning that came late. After a gap it is right at once. It never goes
//! back behind what was told.

use std::time::Duration;

use tokio::time::Instant;

/// The delay is the least of between one and two of these.
const WINDOW: Duration = Duration::from_secs(5);
/// The part of a sound by which the mapping may move forward in it: five times what bad clocks drift apart (200 ppm).
const FORWARD: i64 = 1_000;
/// The part of a sound by which the mapping may move back in it.
const BACK: i64 = 20;

/// How sound follows what was heard before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// Without a gap.
    AtOnce,
    /// After this much of the sender's time.
    After(Duration),
    /// The sender's time says nothing.
    Anyhow,
}

/// The mapping of one track.
#[derive(Debug)]
pub(super) struct Clock {
    /// When a sample would have been heard that follows without a gap.
    next: Instant,
    /// When the first sample of the last sound was heard. What follows is not earlier.
    told: Instant,
    /// How late sound came, measured by this mapping: the least of two windows of time, in nanoseconds. Below zero: it came before it
    /// should have been heard.
    late: [Option<i64>; 2],
    /// When the later window began.
    window_began: Instant,
}

impl Clock {
    /// The clock of a track of which nothing was heard.
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, told: now, late: [None; 2], window_began: now }
    }

    /// When the first sample of a sound was heard that came now.
    pub(super) fn place(&mut self, follows: Follows, length: Duration, now: Instant) -> Instant {
        let floor = if follows == Follows::AtOnce { self.told } else { self.next };
        match follows {
            Follows::AtOnce => {}
            Follows::After(time) => self.next = later(self.next, time),
            Follows::Anyhow => self.late = [None; 2],
        }
        self.learn(nanoseconds_between(later(self.next, length), now), now);
        let late = self.late.iter().flatten().min().copied().unwrap_or_default();
        let whole = nanoseconds(length);
        let moves = match follows {
            Follows::AtOnce => late.clamp(-whole / BACK, whole / FORWARD),
            Follows::After(_) | Follows::Anyhow => late,
        };
        self.move_by(moves);
        if self.next < floor {
            self.move_by(nanoseconds_between(self.next, floor));
        }
        self.take(length)
    }

    /// When the first sample of a sound was heard that was made up and follows without a gap.
    pub(super) fn take(&mut self, length: Duration) -> Instant {
        let at = self.next;
        (self.told, self.next) = (at, later(at, length));
        at
    }

    fn learn(&mut self, late: i64, now: Instant) {
        let age = now.saturating_duration_since(self.window_began);
        if age >= WINDOW {
            let [_, second] = self.late;
            self.late = [second.filter(|_| age < 2 * WINDOW), None];
            self.window_began = now;
        }
        let [_, second] = &mut self.late;
        *second = Some(second.map_or(late, |least| least.min(late)));
    }

    /// Move the mapping, and what was measured by it.
    fn move_by(&mut self, by: i64) {
        let distance = Duration::from_nanos(by.unsigned_abs());
        let moved = if by < 0 { self.next.checked_sub(distance) } else { self.next.checked_add(distance) };
        self.next = moved.unwrap_or(self.next);
        for late in self.late.iter_mut().flatten() {
            *late = late.saturating_sub(by);
        }
    }
}

fn later(at: Instant, time: Duration) -> Instant {
    at.checked_add(time).unwrap_or(at)
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// The time from one to another; below zero where the other is earlier.
fn nanoseconds_between(from: Instant, to: Instant) -> i64 {
    if to >= from { nanoseconds(to - from) } else { -nanoseconds(from - to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    /// A delay that is small most of the time, in a fixed pseudo-random order.
    fn delay(i: u32) -> Duration {
        let random = i.wrapping_mul(2_654_435_761) >> 16;
        Duration::from_micros(if random.is_multiple_of(50) { 60_000 } else { u64::from(random % 3_000) })
    }

    /// Ten minutes of sound without a gap, from a clock that drifts. Returns the extremes of `at` minus the truth, in milliseconds,
    /// after the first ten seconds.
    fn drift(ppm: f64) -> (f64, f64) {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let mut last = start;
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        let mut came = start;
        for i in 0..30_000 {
            let truth = start + FRAME.mul_f64(f64::from(i) * (1.0 + ppm / 1e6));
            came = came.max(truth + FRAME + delay(i));
            let follows = if i == 0 { Follows::Anyhow } else { Follows::AtOnce };
            let at = clock.place(follows, FRAME, came);
            let step = (at - last).as_secs_f64() / FRAME.as_secs_f64();
            assert!(at >= last && (i < 500 || (0.95..=1.001_1).contains(&step)), "a step of {step} frames at {i}");
            last = at;
            if i > 500 {
                let error = nanoseconds_between(truth, at) as f64 / 1e6;
                (least, most) = (least.min(error), most.max(error));
            }
        }
        (least, most)
    }

    #[test]
    fn clocks_that_drift_are_followed_for_ten_minutes() {
        for ppm in [-200.0, 0.0, 200.0] {
            let (least, most) = drift(ppm);
            assert!(least > -3.0 && most < 3.0, "at {ppm} ppm `at` is off by {least} to {most} ms");
        }
    }

    #[test]
    fn a_late_beginning_is_corrected_smoothly() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        // Ten packets wait somewhere and come at once; the rest comes in time.
        let mut last = None;
        for i in 0..400_u32 {
            let truth = start + FRAME * i;
            let came = (truth + FRAME).max(start + FRAME * 10);
            let follows = if i == 0 { Follows::Anyhow } else { Follows::AtOnce };
            let at = clock.place(follows, FRAME, came);
            assert!(last.is_none_or(|last| at > last));
            last = Some(at);
            if i == 399 {
                assert!(nanoseconds_between(truth, at).abs() < 1_000_000, "{:?}", nanoseconds_between(truth, at));
            }
        }
    }

    #[test]
    fn a_long_sound_behind_a_short_one_does_not_turn_time_back() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let (long, short) = (FRAME * 6, FRAME / 8);
        // The first sound came half a second late, and what follows in time: the mapping moves back as far as it may.
        let mut last = clock.place(Follows::Anyhow, FRAME, start + Duration::from_millis(500));
        for _ in 0..10 {
            for (at, length) in [(clock.take(short), short), (clock.place(Follows::AtOnce, long, start), long)] {
                assert!(at >= last, "a sound of {length:?} is {:?} before the last one", last - at);
                last = at;
            }
        }
    }

    #[test]
    fn gaps_are_kept_and_wild_times_are_not() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        assert_eq!(clock.place(Follows::Anyhow, FRAME, start + FRAME), start);
        // Half a second of silence, told by the sender's time; the packet is 7 ms late.
        let gap = Duration::from_millis(500);
        let at = clock.place(Follows::After(gap), FRAME, start + FRAME + gap + FRAME + Duration::from_millis(7));
        assert_eq!(at, start + FRAME + gap);
        // A day, while the host's clock says a second: the sound was heard when it came.
        let day = Duration::from_secs(86_400);
        let now = start + Duration::from_secs(2);
        assert_eq!(clock.place(Follows::After(day), FRAME, now), now - FRAME);
        // At once behind it, although the sender's time begins anew.
        assert_eq!(clock.place(Follows::Anyhow, FRAME, now), now);
        // A long silence without any time: when it came.
        let now = now + day;
        assert_eq!(clock.place(Follows::After(Duration::ZERO), FRAME, now), now - FRAME);
        clock.place(Follows::After(Duration::MAX), FRAME, now + FRAME);
    }
}

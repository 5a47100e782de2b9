//! The time of one job: the host's clock, or a virtual clock for scenarios and replays.
//!
//! A virtual clock stands still while the job has something to do, and jumps to the next time at which something happens. Ten
//! minutes of conversation then take as long as their steps, and every run of them has the same times.
//!
//! Bound: after [`STEPS_AT_ONCE`] steps at one virtual time, each further step takes [`STEP_TAKES`]. A guest that asks for one step
//! after the other sees time pass, as on a machine.

use std::time::Duration;

use tokio::time::Instant;

use crate::guest::clock::since_1970;

/// Steps at one virtual time after which steps take time.
const STEPS_AT_ONCE: u32 = 100;
/// Virtual time of each further step.
const STEP_TAKES: Duration = Duration::from_millis(1);

/// The clock of one job.
#[derive(Clone, Copy, Debug)]
pub(super) enum JobTime {
    /// The host's clock.
    Real,
    /// A clock that jumps.
    Virtual(VirtualTime),
}

/// A clock that jumps.
#[derive(Clone, Copy, Debug)]
pub(super) struct VirtualTime {
    /// The beginning of the job.
    began: Instant,
    /// The same as time since 1970.
    wall: Duration,
    now: Instant,
    /// Steps since the last jump.
    steps: u32,
}

impl JobTime {
    /// A virtual clock that begins at this time, which the guest sees as `wall` after 1970.
    pub(super) fn jumping(began: Instant, wall: Duration) -> Self {
        Self::Virtual(VirtualTime { began, wall, now: began, steps: 0 })
    }

    /// The time.
    pub(super) fn now(&self) -> Instant {
        match self {
            Self::Real => Instant::now(),
            Self::Virtual(time) => time.now,
        }
    }

    /// The time since 1970.
    pub(super) fn since_1970(&self) -> Duration {
        match self {
            Self::Real => since_1970(),
            Self::Virtual(time) => time.wall + time.now.saturating_duration_since(time.began),
        }
    }

    /// Whether the clock jumps.
    pub(super) fn is_virtual(&self) -> bool {
        matches!(self, Self::Virtual(_))
    }

    /// Jump to a time, where the clock can. It never goes back.
    pub(super) fn jump(&mut self, to: Instant) {
        if let Self::Virtual(time) = self
            && to > time.now
        {
            (time.now, time.steps) = (to, 0);
        }
    }

    /// A step ends.
    pub(super) fn step_ends(&mut self) {
        if let Self::Virtual(time) = self {
            time.steps = time.steps.saturating_add(1);
            if time.steps > STEPS_AT_ONCE {
                time.now += STEP_TAKES;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_jumps_forward_and_never_back() {
        let began = Instant::now();
        let mut time = JobTime::jumping(began, Duration::from_secs(5));
        assert_eq!((time.now(), time.since_1970()), (began, Duration::from_secs(5)));
        time.jump(began + Duration::from_secs(600));
        time.jump(began);
        assert_eq!(time.since_1970(), Duration::from_secs(605));
        assert!(time.is_virtual() && !JobTime::Real.is_virtual());
    }

    #[test]
    fn time_passes_for_a_guest_that_never_waits() {
        let began = Instant::now();
        let mut time = JobTime::jumping(began, Duration::ZERO);
        (0..STEPS_AT_ONCE).for_each(|_| time.step_ends());
        assert_eq!(time.now(), began);
        (0..5).for_each(|_| time.step_ends());
        assert_eq!(time.now(), began + 5 * STEP_TAKES);
    }
}

//! An agent whose jobs keep crashing the same way gets no more for a while, and then none until it is loaded anew. Pure.
//!
//! A crash is an end that the agent did not choose: a trap, a limit, a prewarm that fails. An entrypoint that returns an error
//! has run to its own end, and says nothing about the next job.
//!
//! Bounds: `failures-max` crashes in a row, pauses from [`PAUSE_MIN`] to [`PAUSE_MAX`], [`PAUSES_MAX`] of them.

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::text::plural;
use wasm_worker_core::verdict::Code;

const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
const PAUSES_MAX: u32 = 8;

/// Whether an agent gets jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Available,
    /// Not before this.
    Pausing {
        until: Instant,
        pause: Duration,
    },
    /// Not before it is loaded anew.
    Quarantined,
}

/// What one agent's jobs came to lately.
#[derive(Debug)]
pub(crate) struct Health {
    failures_max: Option<usize>,
    state: State,
    /// The crash that it keeps ending with, and how often in a row.
    streak: Option<(Code, usize)>,
    pauses: u32,
}

impl Health {
    pub(crate) fn new(failures_max: Option<usize>) -> Self {
        Self { failures_max, state: State::Available, streak: None, pauses: 0 }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn wake_at(&self) -> Option<Instant> {
        match self.state {
            State::Pausing { until, .. } => Some(until),
            State::Available | State::Quarantined => None,
        }
    }

    /// How long the pause is that has begun; none that has an end.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self.state {
            State::Pausing { pause, .. } => Some(pause),
            State::Available | State::Quarantined => None,
        }
    }

    /// A job has ended, or an offer could not be decided on. Why the agent gets no jobs from now on, where that is so.
    pub(crate) fn ended(&mut self, now: Instant, code: Code) -> Option<String> {
        match weight(code) {
            Weight::None => None,
            Weight::Well => {
                (self.streak, self.pauses) = (None, 0);
                None
            }
            Weight::Crash => {
                let so_far = self.streak.filter(|(last, _)| *last == code).map_or(0, |(_, count)| count);
                self.streak = Some((code, so_far + 1));
                let too_many = self.failures_max.is_some_and(|most| so_far + 1 >= most);
                // Those that were running already say nothing new.
                let news = too_many && self.state == State::Available;
                news.then(|| {
                    self.begin_pause(now);
                    format!("{} in a row ended with {code}", plural(so_far + 1, "job"))
                })
            }
        }
    }

    /// It could not be loaded at all.
    pub(crate) fn not_loaded(&mut self, now: Instant) {
        self.begin_pause(now);
    }

    /// It has been loaded, or loaded anew.
    pub(crate) fn loaded(&mut self) {
        *self = Self::new(self.failures_max);
    }

    /// Whether a pause is over now. The next crash of the same kind begins a longer one.
    pub(crate) fn time_up(&mut self, now: Instant) -> bool {
        let over = matches!(self.state, State::Pausing { until, .. } if until <= now);
        if over {
            self.state = State::Available;
        }
        over
    }

    fn begin_pause(&mut self, now: Instant) {
        self.state = if self.pauses >= PAUSES_MAX {
            State::Quarantined
        } else {
            let pause = PAUSE_MIN.saturating_mul(1 << self.pauses).min(PAUSE_MAX);
            self.pauses += 1;
            State::Pausing { until: now + pause, pause }
        };
    }
}

enum Weight {
    Well,
    Crash,
    /// Says nothing about the agent.
    None,
}

fn weight(code: Code) -> Weight {
    match code {
        Code::Completed | Code::Failed | Code::Terminated | Code::Drained => Weight::Well,
        Code::Trapped
        | Code::Unresponsive
        | Code::InitTimeout
        | Code::InitFailed
        | Code::OutOfFuel
        | Code::MemoryLimit
        | Code::HostcallLimit
        | Code::HostFault => Weight::Crash,
        Code::Deadline
        | Code::ShutdownTimeout
        | Code::Killed
        | Code::Lost
        | Code::Rejected
        | Code::Cancelled
        | Code::Expired
        | Code::Unserved => Weight::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_crash_in_a_row_pauses_and_at_last_quarantines() {
        let (mut health, mut now) = (Health::new(Some(3)), Instant::now());
        assert_eq!(health.ended(now, Code::Trapped), None);
        assert_eq!(health.ended(now, Code::OutOfFuel), None);
        assert_eq!(health.ended(now, Code::Trapped), None);
        assert_eq!(health.ended(now, Code::Trapped), None);
        assert_eq!(health.ended(now, Code::Killed), None);
        assert_eq!(health.ended(now, Code::Trapped).unwrap(), "3 jobs in a row ended with trapped");
        assert_eq!(health.ended(now, Code::Trapped), None, "it pauses already");
        let mut pauses = Vec::new();
        while let State::Pausing { until, .. } = health.state() {
            pauses.push((until - now).as_secs());
            assert!(!health.time_up(until - Duration::from_millis(1)));
            now = until;
            assert!(health.time_up(now));
            assert!(health.ended(now, Code::Trapped).is_some(), "one more is enough");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!((health.state(), health.wake_at()), (State::Quarantined, None));
        health.loaded();
        assert_eq!(health.state(), State::Available);
    }

    #[test]
    fn a_job_that_runs_to_its_own_end_clears_the_agent() {
        let (mut health, now) = (Health::new(Some(2)), Instant::now());
        for code in [Code::Trapped, Code::Failed, Code::Trapped, Code::Completed, Code::Trapped] {
            assert_eq!(health.ended(now, code), None);
        }
        let mut never = Health::new(None);
        assert!((0..1_000).all(|_| never.ended(now, Code::Trapped).is_none()));
    }
}

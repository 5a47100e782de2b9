//! The health of an agent: repeated crashes pause the agent, and many pauses quarantine it until its next reload. Pure.
//!
//! A crash is an end that the agent did not choose: a trap, a limit, a failed prewarm. An agent that finishes with an error ran
//! to its own end, and is no crash.
//!
//! Bounds: `failures-max` equal crashes in a row, pauses from [`PAUSE_MIN`] to [`PAUSE_MAX`], at most [`PAUSES_MAX`] pauses.

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::backoff::Backoff;
use wasm_worker_core::text::plural;
use wasm_worker_core::verdict::Code;

const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
const PAUSES_MAX: u32 = 8;

/// Whether an agent takes jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthState {
    /// The agent takes jobs.
    Available,
    /// The agent takes no jobs until a moment.
    Pausing {
        /// The end of the pause.
        until: Instant,
        /// The length of the pause.
        pause: Duration,
    },
    /// The agent takes no jobs until its next reload.
    Quarantined,
}

/// The recent crashes of one agent, and what follows from them.
#[derive(Debug)]
pub(crate) struct Health {
    failures_max: Option<usize>,
    state: HealthState,
    /// The code of the last crash, and the number of equal crashes in a row.
    streak: Option<(Code, usize)>,
    /// Counts the pauses, and gives the length of the next one.
    backoff: Backoff,
}

impl Health {
    pub(crate) fn new(failures_max: Option<usize>) -> Self {
        let backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        Self { failures_max, state: HealthState::Available, streak: None, backoff }
    }

    pub(crate) fn state(&self) -> HealthState {
        self.state
    }

    /// The end of the current pause.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        match self.state {
            HealthState::Pausing { until, .. } => Some(until),
            HealthState::Available | HealthState::Quarantined => None,
        }
    }

    /// The length of the current pause.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self.state {
            HealthState::Pausing { pause, .. } => Some(pause),
            HealthState::Available | HealthState::Quarantined => None,
        }
    }

    /// Record the end of a job, or of an offer that the agent could not decide on. Returns the reason when a pause begins.
    pub(crate) fn record(&mut self, now: Instant, code: Code) -> Option<String> {
        match evidence(code) {
            Evidence::None => None,
            Evidence::Good => {
                self.streak = None;
                self.backoff.succeed();
                None
            }
            Evidence::Crash => {
                let so_far = self.streak.filter(|(last, _)| *last == code).map_or(0, |(_, count)| count);
                self.streak = Some((code, so_far + 1));
                let too_many = self.failures_max.is_some_and(|most| so_far + 1 >= most);
                // Jobs that still run during a pause do not begin another one.
                let pauses = too_many && self.state == HealthState::Available;
                pauses.then(|| {
                    self.begin_pause(now);
                    format!("{} in a row ended with {code}", plural(so_far + 1, "job"))
                })
            }
        }
    }

    /// The first load of the agent failed.
    pub(crate) fn load_failed(&mut self, now: Instant) {
        self.begin_pause(now);
    }

    /// The agent was loaded.
    pub(crate) fn loaded(&mut self) {
        *self = Self::new(self.failures_max);
    }

    /// End the pause if its time has come, and return whether it ended. The next crash of the same kind begins a longer pause.
    pub(crate) fn end_pause(&mut self, now: Instant) -> bool {
        let over = matches!(self.state, HealthState::Pausing { until, .. } if until <= now);
        if over {
            self.state = HealthState::Available;
        }
        over
    }

    fn begin_pause(&mut self, now: Instant) {
        self.state = if self.backoff.failures() >= PAUSES_MAX {
            HealthState::Quarantined
        } else {
            let pause = self.backoff.fail();
            HealthState::Pausing { until: now + pause, pause }
        };
    }
}

/// What the end of one job says about its agent.
enum Evidence {
    Good,
    Crash,
    /// Nothing.
    None,
}

fn evidence(code: Code) -> Evidence {
    match code {
        Code::Completed | Code::Failed | Code::Terminated | Code::Drained => Evidence::Good,
        Code::Trapped
        | Code::Unresponsive
        | Code::InitTimeout
        | Code::InitFailed
        | Code::OutOfFuel
        | Code::MemoryLimit
        | Code::HostcallLimit
        | Code::LimitCalls
        | Code::Stalled
        | Code::HostFault => Evidence::Crash,
        Code::Deadline
        | Code::Disconnected
        | Code::ShutdownTimeout
        | Code::Killed
        | Code::Lost
        | Code::Rejected
        | Code::Cancelled
        | Code::Expired
        | Code::Unserved => Evidence::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_crashes_in_a_row_pause_the_agent_and_at_last_quarantine_it() {
        let (mut health, mut now) = (Health::new(Some(3)), Instant::now());
        assert_eq!(health.record(now, Code::Trapped), None);
        assert_eq!(health.record(now, Code::OutOfFuel), None);
        assert_eq!(health.record(now, Code::Trapped), None);
        assert_eq!(health.record(now, Code::Trapped), None);
        assert_eq!(health.record(now, Code::Killed), None);
        assert_eq!(health.record(now, Code::Trapped).unwrap(), "3 jobs in a row ended with trapped");
        assert_eq!(health.record(now, Code::Trapped), None, "the agent pauses already");
        let mut pauses = Vec::new();
        while let HealthState::Pausing { until, .. } = health.state() {
            pauses.push((until - now).as_secs());
            assert!(!health.end_pause(until - Duration::from_millis(1)));
            now = until;
            assert!(health.end_pause(now));
            assert!(health.record(now, Code::Trapped).is_some(), "one more crash is enough");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!((health.state(), health.wake_at()), (HealthState::Quarantined, None));
        health.loaded();
        assert_eq!(health.state(), HealthState::Available);
    }

    #[test]
    fn a_job_that_runs_to_its_own_end_resets_the_count() {
        let (mut health, now) = (Health::new(Some(2)), Instant::now());
        for code in [Code::Trapped, Code::Failed, Code::Trapped, Code::Completed, Code::Trapped] {
            assert_eq!(health.record(now, code), None);
        }
        let mut never = Health::new(None);
        assert!((0..1_000).all(|_| never.record(now, Code::Trapped).is_none()));
    }
}

//! The answers of `get-budget`, the one thing besides events and times that a step learns from the host: kept for a recording, or
//! given again in a replay.
//!
//! Bound: [`ANSWERS_MAX`] answers of one step.

use std::collections::VecDeque;

use super::bindings::wasm_worker::agent::job::Budget;

/// Most answers of one step that are kept.
const ANSWERS_MAX: usize = 65_536;

/// The answers of one step.
#[derive(Debug, Default)]
pub(crate) enum Tape {
    /// Nothing is kept.
    #[default]
    Off,
    /// Nothing is kept, and CPU time is zero, because it differs in each run: under virtual time.
    Still,
    /// The answers so far; none once they were too many.
    Recording(Option<Vec<Budget>>),
    /// The answers to give.
    Replaying(VecDeque<Budget>),
}

impl Tape {
    /// A tape that keeps answers.
    pub(crate) fn recording() -> Self {
        Self::Recording(Some(Vec::new()))
    }

    /// The answer to a guest that asks, which is `budget` unless a replay has another.
    pub(crate) fn answer(&mut self, budget: Budget) -> Budget {
        match self {
            Self::Off => budget,
            Self::Still => Budget { cpu_ms: 0.0, ..budget },
            Self::Recording(answers) => {
                if answers.as_ref().is_some_and(|kept| kept.len() == ANSWERS_MAX) {
                    *answers = None;
                }
                if let Some(kept) = answers {
                    kept.push(budget);
                }
                budget
            }
            Self::Replaying(answers) => answers.pop_front().unwrap_or(budget),
        }
    }

    /// Take the answers of the step. `None` where they were too many.
    pub(crate) fn take_answers(&mut self) -> Option<Vec<Budget>> {
        match self {
            Self::Recording(answers) => answers.replace(Vec::new()),
            Self::Off | Self::Still | Self::Replaying(_) => Some(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bindings::wasm_worker::agent::job::Gauge;
    use super::*;

    fn budget(used: f64) -> Budget {
        let gauge = Gauge { used, limit: None };
        Budget { fuel: gauge, memory_bytes: gauge, time_ms: gauge, cpu_ms: used }
    }

    #[test]
    fn answers_are_kept_and_given_again() {
        let mut tape = Tape::recording();
        assert_eq!(tape.answer(budget(1.0)), budget(1.0));
        assert_eq!(tape.take_answers(), Some(vec![budget(1.0)]));
        assert_eq!(tape.take_answers(), Some(Vec::new()));
        let mut tape = Tape::Replaying([budget(5.0)].into());
        assert_eq!((tape.answer(budget(1.0)), tape.answer(budget(1.0))), (budget(5.0), budget(1.0)));
    }

    #[test]
    fn a_guest_that_asks_for_ever_fills_no_memory() {
        let mut tape = Tape::recording();
        for _ in 0..=ANSWERS_MAX {
            tape.answer(budget(1.0));
        }
        assert_eq!(tape.take_answers(), None);
        assert_eq!(tape.take_answers(), Some(Vec::new()));
    }
}

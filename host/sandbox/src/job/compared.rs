//! The comparison of a replayed step with the recorded one. Pure.

use serde::Serialize;
use wasm_worker_core::verdict::Code;

use crate::guest::calls::{Asked, Call};
use crate::recording::codec::is_same;
use crate::recording::record::{StepEnd, StepFacts};
use crate::recording::view::{EndView, call_line, end_view};

/// The first difference between a recording and its replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The step; 0 is `decide`.
    pub step: u32,
    /// What differs.
    pub what: &'static str,
    /// What the recording has, in lines.
    pub recorded: Vec<String>,
    /// What the replay has.
    pub replayed: Vec<String>,
}

/// The recorded side of one step.
pub(super) struct Compared<'a> {
    pub(super) number: u32,
    pub(super) facts: &'a StepFacts,
    pub(super) calls: &'a [Call],
    pub(super) other_build: bool,
}

impl Compared<'_> {
    /// The first difference from what the replay did.
    pub(super) fn with(&self, asked: &Asked<'_>, end: &StepEnd, fuel: u64) -> Option<Difference> {
        let by_time = is_by_time(&self.facts.end);
        if !self.is_same_end(end, by_time) {
            return self.differs("end", lines_of_end(&self.facts.end), lines_of_end(end));
        }
        // What the step did until it was ended from outside is known to the last check of its fuel.
        if by_time {
            return None;
        }
        let (calls, wake, finish) = *asked;
        let same =
            calls.len() == self.calls.len() && calls.iter().zip(self.calls).all(|(one, other)| is_same(one, other));
        let StepFacts { wake: recorded_wake, finish: recorded_finish, .. } = self.facts;
        let recorded_finish = recorded_finish.as_ref();
        if !same || wake != *recorded_wake || finish != recorded_finish {
            let recorded = lines(self.calls, *recorded_wake, recorded_finish);
            return self.differs("calls", recorded, lines(calls, wake, finish));
        }
        if fuel != self.facts.fuel && !self.other_build {
            return self.differs("fuel", vec![self.facts.fuel.to_string()], vec![fuel.to_string()]);
        }
        None
    }

    fn is_same_end(&self, end: &StepEnd, by_time: bool) -> bool {
        match (&self.facts.end, end) {
            (StepEnd::Trapped { kind, backtrace, .. }, StepEnd::Trapped { kind: other, backtrace: frames, .. }) => {
                kind == other && (self.other_build || backtrace == frames)
            }
            (_, StepEnd::OutOfFuel { .. }) if by_time => true,
            (StepEnd::Killed { code, .. }, StepEnd::Killed { code: other, .. }) => code == other,
            (StepEnd::OutOfFuel { .. }, StepEnd::OutOfFuel { .. }) | (StepEnd::Failed { .. }, _) => true,
            (recorded, end) => recorded == end,
        }
    }

    fn differs(&self, what: &'static str, recorded: Vec<String>, replayed: Vec<String>) -> Option<Difference> {
        Some(Difference { step: self.number, what, recorded, replayed })
    }
}

/// The calls, the timer and the result as lines.
fn lines(calls: &[Call], wake: Option<Option<u32>>, finish: Option<&Result<(), String>>) -> Vec<String> {
    let wake = wake.map(|wake| wake.map_or("wake: never".to_owned(), |after| format!("wake: after {after} ms")));
    let finish = finish.map(|result| match result {
        Ok(()) => "finish: ok".to_owned(),
        Err(error) => format!("finish: error `{error}`"),
    });
    calls.iter().map(call_line).chain(wake).chain(finish).collect()
}

fn lines_of_end(end: &StepEnd) -> Vec<String> {
    match end_view(end) {
        None => vec!["the step returned".into()],
        Some(EndView { how, detail, backtrace }) => std::iter::once(format!("{how}: {detail}"))
            .chain(backtrace.into_iter().map(|frame| format!("  in {frame}")))
            .collect(),
    }
}

/// The admission of memory that ended the recorded step.
pub(super) fn refused(end: &StepEnd) -> Option<u64> {
    match end {
        StepEnd::Killed { admissions, .. } => *admissions,
        _ => None,
    }
}

/// Whether the recorded step was ended from outside, at a time that nothing in the job determines.
pub(super) fn is_by_time(end: &StepEnd) -> bool {
    let by_guest = [Code::MemoryLimit, Code::HostcallLimit, Code::LimitCalls];
    match end {
        StepEnd::Dropped => true,
        StepEnd::Killed { code, .. } => by_guest.iter().all(|by_guest| by_guest.as_str() != code),
        _ => false,
    }
}

//! The course of a scenario: the position in its script, and the expectations that hold. Pure; the time is an argument.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasm_worker_core::record::JobRecord;
use wasm_worker_core::refusal::{Reason, Refusal};
use wasm_worker_core::verdict::{Class, Code};

use super::check::{Checked, Cursors, End, Now, Progress, check};
use super::failure::{Failure, clock, wanted};
use super::script::{Action, Expect, Script, Step, Want};
use super::trace::Trace;

/// Virtual time for the agent to join the room, once a participant wants to be heard.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Carry out the step at this position.
    Act(usize),
    /// Nothing until this time since the launch, or until the agent does something.
    Wait(Duration),
    /// The script is over, and the job goes on.
    Over,
    /// An expectation failed.
    Failed,
}

/// The course of one scenario.
#[derive(Debug)]
pub(crate) struct Play {
    script: Arc<Script>,
    /// The present step.
    position: usize,
    /// The time at which the present step began to wait.
    since: Option<Duration>,
    /// What the present step has found so far, one for each want.
    progress: Vec<Progress>,
    /// The ends of what was found before.
    cursors: Cursors,
    /// What the agent did.
    pub(crate) trace: Trace,
    failure: Option<Failure>,
    /// Whether an expectation about the end held.
    end_expected: bool,
}

/// A play that the job and its caller share.
#[derive(Clone, Debug)]
pub struct SharedPlay(Arc<Mutex<Play>>);

impl SharedPlay {
    pub(super) fn new(play: Play) -> Self {
        Self(Arc::new(Mutex::new(play)))
    }

    /// The play, locked.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Play> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The script.
    pub(crate) fn script(&self) -> Arc<Script> {
        self.lock().script.clone()
    }
}

impl Play {
    pub(super) fn new(script: Arc<Script>) -> Self {
        let trace = Trace::new(wants_calls(&script));
        Self {
            script,
            position: 0,
            since: None,
            progress: Vec::new(),
            cursors: Cursors::default(),
            trace,
            failure: None,
            end_expected: false,
        }
    }

    /// The first expectation that did not hold.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether the present step waits for the end of the job, so that nothing more comes from the script.
    pub(crate) fn awaits_end(&self) -> bool {
        match self.script.steps.get(self.position).map(|step| &step.action) {
            Some(Action::Expect(expect)) => expect.wants.iter().any(Want::is_of_end),
            Some(_) => false,
            None => true,
        }
    }

    /// What comes next. After [`Next::Act`] the position is that of the following step.
    pub(crate) fn next(&mut self, now: &Now<'_>) -> Next {
        if self.failure.is_some() {
            return Next::Failed;
        }
        let script = self.script.clone();
        let Some(step) = script.steps.get(self.position) else { return Next::Over };
        let since = *self.since.get_or_insert(now.at);
        let until = match &step.action {
            Action::Expect(expect) => return self.expect(step.line, expect, now, since + expect.within),
            Action::Advance(by) => since + *by,
            Action::At(time) => *time,
            action if needs_agent(action) && !now.joined => {
                if now.at < since + JOIN_WITHIN {
                    return Next::Wait(since + JOIN_WITHIN);
                }
                let why = format!("the agent did not join its room within {JOIN_WITHIN:?}, so it cannot hear this");
                self.failure = Some(Failure::plain(step.line, why));
                return Next::Failed;
            }
            _ => return self.go_on(),
        };
        if now.at < until {
            return Next::Wait(until);
        }
        self.go_on()
    }

    fn go_on(&mut self) -> Next {
        let at = self.position;
        self.position += 1;
        self.since = None;
        self.progress.clear();
        Next::Act(at)
    }

    fn expect(&mut self, line: usize, expect: &Expect, now: &Now<'_>, until: Duration) -> Next {
        let is_last = now.at >= until;
        match self.check(expect, now, None, is_last) {
            Checked::Held => self.go_on(),
            Checked::NotYet(_) if !is_last => Next::Wait(until),
            Checked::NotYet(failed) | Checked::Never(failed) => {
                self.fail(line, expect, failed, now, None);
                Next::Failed
            }
        }
    }

    fn check(&mut self, expect: &Expect, now: &Now<'_>, end: Option<&End>, is_last: bool) -> Checked {
        self.progress.resize_with(expect.wants.len(), Progress::default);
        let checked = check(expect, &self.trace, &self.cursors, &mut self.progress, now, end, is_last);
        if matches!(checked, Checked::Held) {
            self.cursors.follow(expect, &self.progress);
        }
        checked
    }

    fn fail(&mut self, line: usize, expect: &Expect, failed: usize, now: &Now<'_>, end: Option<&End>) {
        let Some(want) = expect.wants.get(failed) else { return };
        let mut why = format!("expected {}", wanted(want));
        match end {
            None if matches!(want, Want::NoText(_)) => {}
            None => why.push_str(&format!(" within {:?}", expect.within)),
            Some(end) => why.push_str(&format!("; the job ended as {} at {}", end.code.as_str(), clock(end.at))),
        }
        let mut diff = super::check::difference(want, &self.trace, &self.cursors, now, end);
        if let Some(end) = end.filter(|end| end.code.class() != Class::Ok && !matches!(want, Want::End(_))) {
            diff.push(format!("+ {}", end.in_words()));
        }
        if self.trace.not_kept > 0 {
            why.push_str(&format!("; {} later texts, calls and answers are not seen", self.trace.not_kept));
        }
        self.failure = Some(Failure { line, why, diff });
    }

    /// The job has ended: check what is left of the script.
    pub(super) fn job_ended(&mut self, record: &JobRecord) {
        let end = End {
            code: record.verdict.code,
            detail: record.verdict.detail.clone(),
            backtrace: record.verdict.backtrace.clone(),
            at: Duration::from_micros(record.usage.wall_us),
        };
        let (fuel, memory) = (record.usage.fuel, record.usage.memory_peak_bytes);
        self.ended(&end, fuel, memory, &record.activity.attributes);
    }

    /// The agent refused the offer.
    pub(super) fn job_refused(&mut self, refusal: &Refusal) {
        let code = match (refusal.reason, &refusal.verdict) {
            (_, Some(verdict)) => verdict.code,
            (Reason::Rejected, None) => Code::Rejected,
            (_, None) => Code::HostFault,
        };
        let detail = format!("the agent refused the job: {}", refusal.detail);
        let backtrace = refusal.verdict.as_ref().map(|verdict| verdict.backtrace.clone()).unwrap_or_default();
        let end = End { code, detail, backtrace, at: Duration::ZERO };
        self.ended(&end, 0, 0, &BTreeMap::new());
    }

    /// The host lost the job.
    pub(super) fn job_lost(&mut self) {
        self.failure.get_or_insert_with(|| Failure::plain(1, "the host lost the job"));
    }

    fn ended(&mut self, end: &End, fuel: u64, memory: usize, attributes: &BTreeMap<String, String>) {
        let script = self.script.clone();
        let now = Now { at: end.at, joined: false, fuel, memory, attributes };
        while self.failure.is_none() {
            let Some(step) = script.steps.get(self.position) else { break };
            match &step.action {
                Action::Expect(expect) => match self.check(expect, &now, Some(end), true) {
                    Checked::Held => self.end_expected |= expect.wants.iter().any(Want::is_of_end),
                    Checked::NotYet(failed) | Checked::Never(failed) => {
                        return self.fail(step.line, expect, failed, &now, Some(end));
                    }
                },
                action if needs_agent(action) || matches!(action, Action::Fault(_)) => {
                    let why = format!("the job ended at {}, before this step", clock(end.at));
                    self.failure = Some(Failure { line: step.line, why, diff: vec![format!("+ {}", end.in_words())] });
                }
                // Without the agent people still come and go, and time passes.
                _ => {}
            }
            self.go_on();
        }
        if self.failure.is_none() && !self.end_expected && end.code.class() != Class::Ok {
            let line = script.steps.last().map_or(1, |step| step.line);
            let why = "the job did not end well, and no step expects that".to_owned();
            let diff = vec!["- end completed, terminated or drained".to_owned(), format!("+ {}", end.in_words())];
            self.failure = Some(Failure { line, why, diff });
        }
    }
}

/// Whether a step has no meaning where the agent is not in the room.
fn needs_agent(action: &Action) -> bool {
    matches!(
        action,
        Action::Say(_) | Action::Speak { .. } | Action::Data { .. } | Action::File(_) | Action::Call { .. }
    )
}

/// Whether a step looks at the agent's calls.
fn wants_calls(script: &Script) -> bool {
    let of_call = |step: &Step| match &step.action {
        Action::Expect(expect) => expect.wants.iter().any(|want| matches!(want, Want::Call(_))),
        _ => false,
    };
    script.steps.iter().any(of_call)
}

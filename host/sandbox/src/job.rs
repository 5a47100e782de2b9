//! The life of a job: `Offer → Admitted → Instance → Ended → Verdict`, one value that moves, each step taking the last.
//!
//! [`Life`] decides, and does nothing: it is told what happened and when, and says what to do. The supervisor does it.
//! Whatever the order in which things happen, a life closes exactly once.
//!
//! Bounds: `init-timeout` from the admission to the launch, `max-duration` and the shutdown grace after it, and
//! [`KILL_GRACE`] for a guest that does not notice a kill.

pub mod admission;
pub(crate) mod instance;
pub(crate) mod limits;
pub(crate) mod run;
pub(crate) mod script;
pub mod spec;
pub(crate) mod supervisor;
pub(crate) mod teardown;
pub(crate) mod usage;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::hostcalls::bindings::wasm_worker::agent::inbox::BudgetKind;
use crate::hostcalls::control::StopBy;
use crate::hostcalls::kill::{Kill, Warning};
use crate::settings::Limits;
use run::Crash;
use wasm_worker_core::event::WarningKind;
use wasm_worker_core::usage::micros;
use wasm_worker_core::verdict::{Code, Verdict};

/// A killed guest notices at its next epoch check or at once while it waits; one that does not is dropped where it is.
const KILL_GRACE: Duration = Duration::from_millis(100);
/// Share of `max-duration` after which the job is warned, in percent.
const WARNING_PERCENT: u32 = 80;

/// Where a job stands.
#[derive(Debug)]
enum Phase {
    /// Admitted.
    Created,
    /// Its instance is made.
    Started,
    /// Its prewarmed state is in place.
    Ready,
    /// Its entrypoint runs.
    Running,
    /// Its entrypoint has returned, and its `shutdown` runs.
    Finishing { result: Result<(), String>, until: Instant },
    /// It is to die, and may not have noticed yet.
    Killing { kill: Kill, due: Instant, until: Instant },
    /// It is over.
    Closed,
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Finishing { .. } => "finishing",
            Self::Killing { .. } => "killing",
            Self::Closed => "closed",
        }
    }
}

/// What can happen to a job.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    InstanceMade,
    StateReady,
    Launched,
    StopAsked {
        by: StopBy,
        reason: String,
    },
    KillAsked,
    Warned(Warning),
    EntrypointReturned(Result<(), String>),
    ShutdownReturned,
    Crashed(Crash),
    /// The time of [`Life::wake_at`] has come.
    TimeUp,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    Publish(Notice),
    /// Tell the guest through its inbox.
    AskGuestToStop {
        reason: String,
        grace: Duration,
    },
    /// 80 % of the longest duration is over.
    WarnOfTime {
        used: Duration,
        limit: Duration,
    },
    CallShutdown {
        reason: String,
    },
    KillGuest(Kill),
    Close(Verdict),
}

/// What is published on the way; the last notice, that it is closed, comes with the verdict.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Notice {
    Created,
    Started,
    Ready,
    Launched,
    Warning { about: WarningKind, detail: String },
    Killed { code: Code, detail: String },
}

/// The pure part of a job's supervision.
pub(crate) struct Life {
    phase: Phase,
    limits: Arc<Limits>,
    created: Instant,
    /// When the entrypoint was called.
    launched: Option<Instant>,
    /// The first request to stop, and when its grace ends.
    stop: Option<(StopBy, String, Instant)>,
    time_warned: bool,
    /// The entrypoint's error, once it has returned one.
    failed: Option<String>,
}

impl Life {
    /// A job that has been admitted.
    pub(crate) fn begin(limits: Arc<Limits>, now: Instant) -> (Self, Output) {
        let life = Self {
            phase: Phase::Created,
            limits,
            created: now,
            launched: None,
            stop: None,
            time_warned: false,
            failed: None,
        };
        (life, Output::Publish(Notice::Created))
    }

    /// When the entrypoint was called, if it was.
    pub(crate) fn launched(&self) -> Option<Instant> {
        self.launched
    }

    /// When [`Input::TimeUp`] is due, whatever else happens.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Created | Phase::Started | Phase::Ready => Some(self.created + self.limits.init_timeout),
            Phase::Running => [self.deadline(), self.time_warning(), self.grace_end()].into_iter().flatten().min(),
            Phase::Finishing { until, .. } | Phase::Killing { until, .. } => Some(*until),
            Phase::Closed => None,
        }
    }

    /// The one place where a job's state changes.
    pub(crate) fn advance(&mut self, now: Instant, input: Input) -> Vec<Output> {
        match (&self.phase, input) {
            (Phase::Closed, _) => Vec::new(),
            (_, Input::Crashed(crash)) => self.close_crashed(now, crash),
            (_, Input::Warned(warning)) => vec![Output::Publish(notice_of(&warning))],
            (_, Input::TimeUp) => self.time_up(now),
            (Phase::Killing { kill, .. }, Input::EntrypointReturned(_) | Input::ShutdownReturned) => {
                let kill = kill.clone();
                self.close_killed(now, &kill, Vec::new())
            }
            (Phase::Killing { .. }, _) => Vec::new(),
            (_, Input::KillAsked) => self.kill(now, now, Kill::Operator),
            (_, Input::StopAsked { by, reason }) => self.stop(now, by, reason),
            (Phase::Created, Input::InstanceMade) => self.enter(Phase::Started, Notice::Started),
            (Phase::Started, Input::StateReady) => self.enter(Phase::Ready, Notice::Ready),
            (Phase::Ready, Input::Launched) => self.launch(now),
            (Phase::Running, Input::EntrypointReturned(result)) => self.finish(now, result),
            (Phase::Finishing { result, .. }, Input::ShutdownReturned) => {
                let verdict = self.verdict_of(result.clone());
                self.close(verdict)
            }
            (phase, input) => {
                let detail = format!("{input:?} came while the job was {}", phase.name());
                self.close(Verdict::new(Code::HostFault, detail))
            }
        }
    }

    fn enter(&mut self, phase: Phase, notice: Notice) -> Vec<Output> {
        self.change(phase);
        vec![Output::Publish(notice)]
    }

    fn change(&mut self, phase: Phase) {
        tracing::trace!(target: "host", "{} → {}", self.phase.name(), phase.name());
        self.phase = phase;
    }

    fn launch(&mut self, now: Instant) -> Vec<Output> {
        self.launched = Some(now);
        let mut outputs = self.enter(Phase::Running, Notice::Launched);
        // Asked to stop before it began: the grace counts from here.
        if let Some((by, reason, _)) = self.stop.take() {
            outputs.extend(self.stop(now, by, reason));
        }
        outputs
    }

    fn stop(&mut self, now: Instant, by: StopBy, reason: String) -> Vec<Output> {
        if self.stop.is_some() || matches!(self.phase, Phase::Finishing { .. }) {
            return Vec::new();
        }
        let grace = self.limits.shutdown_grace;
        self.stop = Some((by, reason.clone(), now + grace));
        match self.phase {
            Phase::Running => vec![Output::AskGuestToStop { reason, grace }],
            _ => Vec::new(),
        }
    }

    fn finish(&mut self, now: Instant, result: Result<(), String>) -> Vec<Output> {
        let reason = match (&self.stop, &result) {
            (Some((_, reason, _)), _) => reason.clone(),
            (None, Ok(())) => "entrypoint returned".to_owned(),
            (None, Err(error)) => format!("entrypoint failed: {error}"),
        };
        let until = self.grace_end().unwrap_or(now + self.limits.shutdown_grace);
        self.failed = result.as_ref().err().cloned();
        self.change(Phase::Finishing { result, until });
        vec![Output::CallShutdown { reason }]
    }

    fn time_up(&mut self, now: Instant) -> Vec<Output> {
        let Some(due) = self.wake_at().filter(|due| now >= *due) else { return Vec::new() };
        let limits = self.limits.clone();
        match &self.phase {
            Phase::Created | Phase::Started | Phase::Ready => {
                self.kill(now, due, Kill::InitTimeout { limit: limits.init_timeout })
            }
            Phase::Running if self.grace_end() == Some(due) => {
                self.kill(now, due, Kill::ShutdownTimeout { grace: limits.shutdown_grace })
            }
            Phase::Running if self.deadline() == Some(due) => {
                self.kill(now, due, Kill::Deadline { limit: limits.max_duration.unwrap_or_default() })
            }
            Phase::Running => {
                self.time_warned = true;
                let used = self.launched.map(|at| now - at).unwrap_or_default();
                vec![Output::WarnOfTime { used, limit: limits.max_duration.unwrap_or_default() }]
            }
            Phase::Finishing { .. } => self.kill(now, due, Kill::ShutdownTimeout { grace: limits.shutdown_grace }),
            Phase::Killing { kill, .. } => {
                let kill = kill.clone();
                self.close_killed(now, &kill, Vec::new())
            }
            Phase::Closed => Vec::new(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.launched? + self.limits.max_duration?)
    }

    fn time_warning(&self) -> Option<Instant> {
        let limit = self.limits.max_duration.filter(|_| !self.time_warned)?;
        Some(self.launched? + limit * WARNING_PERCENT / 100)
    }

    fn grace_end(&self) -> Option<Instant> {
        self.stop.as_ref().map(|(_, _, until)| *until)
    }

    fn kill(&mut self, now: Instant, due: Instant, kill: Kill) -> Vec<Output> {
        self.change(Phase::Killing { kill: kill.clone(), due, until: now + KILL_GRACE });
        vec![Output::KillGuest(kill)]
    }

    fn close_crashed(&mut self, now: Instant, crash: Crash) -> Vec<Output> {
        let place = match &self.phase {
            Phase::Finishing { .. } => "in shutdown: ",
            _ => "",
        };
        match crash {
            Crash::Killed { kill, backtrace } => self.close_killed(now, &kill, backtrace),
            Crash::Exit(status) => {
                let verdict = self.verdict_of_exit(status, place);
                self.close(verdict)
            }
            Crash::OutOfFuel { backtrace } => {
                let detail = format!("{place}used up {} units of fuel", self.limits.fuel.unwrap_or(u64::MAX));
                let verdict = Verdict { backtrace, ..Verdict::new(Code::OutOfFuel, detail) };
                self.close_by_force(verdict)
            }
            Crash::Trap { kind, detail, backtrace } => {
                let code = match &self.phase {
                    Phase::Created | Phase::Started | Phase::Ready => Code::InitFailed,
                    _ => Code::Trapped,
                };
                let verdict = Verdict::new(code, format!("{place}{detail}"));
                self.close(Verdict { trap: Some(kind), backtrace, ..verdict })
            }
            Crash::InitFailed(error) => self.close(Verdict::new(Code::InitFailed, error)),
            Crash::NeedsHandle { import } => {
                let detail = format!("`{import}` was refused although no snapshot is being taken");
                self.close(Verdict::new(Code::HostFault, detail))
            }
            Crash::Host(error) => self.close(Verdict::new(Code::HostFault, error)),
        }
    }

    fn close_killed(&mut self, now: Instant, kill: &Kill, backtrace: Vec<String>) -> Vec<Output> {
        let failed = self.failed.as_ref().map(|error| format!("; before that the entrypoint failed: {error}"));
        let detail = format!("{kill}{}", failed.unwrap_or_default());
        let kill_lag_us = self.kill_lag(now, kill).map(micros);
        self.close_by_force(Verdict { backtrace, kill_lag_us, ..Verdict::new(kill.code(), detail) })
    }

    fn close_by_force(&mut self, verdict: Verdict) -> Vec<Output> {
        let mut outputs = vec![Output::Publish(Notice::Killed { code: verdict.code, detail: verdict.detail.clone() })];
        outputs.extend(self.close(verdict));
        outputs
    }

    /// How long after its time the guest was gone.
    fn kill_lag(&self, now: Instant, kill: &Kill) -> Option<Duration> {
        match (&self.phase, kill) {
            (_, Kill::Unresponsive { ran, limit }) => Some(ran.saturating_sub(*limit)),
            (Phase::Killing { due, .. }, _) => Some(now.saturating_duration_since(*due)),
            _ => None,
        }
    }

    /// The verdict on a guest that called `exit`. In `shutdown` that ends the shutdown, and the entrypoint's result stands.
    fn verdict_of_exit(&self, status: u8, place: &str) -> Verdict {
        let detail = format!("{place}the agent exited with status {status}");
        match (&self.phase, status) {
            (Phase::Created | Phase::Started | Phase::Ready, _) => Verdict::new(Code::InitFailed, detail),
            (Phase::Finishing { result, .. }, 0) => self.verdict_of(result.clone()),
            (_, 0) => Verdict { detail, ..self.verdict_of(Ok(())) },
            (_, _) => self.verdict_of(Err(detail)),
        }
    }

    /// The verdict on an entrypoint that returned.
    fn verdict_of(&self, result: Result<(), String>) -> Verdict {
        match (result, &self.stop) {
            (Err(error), _) => Verdict::new(Code::Failed, error),
            (Ok(()), None) => Verdict::new(Code::Completed, "the entrypoint returned"),
            (Ok(()), Some((StopBy::Guest, reason, _))) => Verdict::new(Code::Completed, reason.as_str()),
            (Ok(()), Some((StopBy::Dispatcher, reason, _))) => Verdict::new(Code::Terminated, reason.as_str()),
            (Ok(()), Some((StopBy::Drain, reason, _))) => Verdict::new(Code::Drained, reason.as_str()),
        }
    }

    fn close(&mut self, verdict: Verdict) -> Vec<Output> {
        self.change(Phase::Closed);
        vec![Output::Close(verdict)]
    }
}

const fn kind_of(budget: BudgetKind) -> WarningKind {
    match budget {
        BudgetKind::Fuel => WarningKind::Fuel,
        BudgetKind::Memory => WarningKind::Memory,
        BudgetKind::Time => WarningKind::Time,
    }
}

fn notice_of(warning: &Warning) -> Notice {
    match warning {
        Warning::SlowToYield { ran } => {
            Notice::Warning { about: WarningKind::Unresponsive, detail: format!("ran for {ran:?} without waiting") }
        }
        Warning::Budget(of) => {
            Notice::Warning { about: kind_of(of.budget), detail: format!("{} of {} used", of.used, of.limit) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasm_worker_core::verdict::TrapKind;

    use super::*;

    fn limits() -> Arc<Limits> {
        Arc::new(Limits { max_duration: Some(Duration::from_secs(60)), ..Limits::default() })
    }

    fn closing(outputs: &[Output]) -> Option<&Verdict> {
        outputs.iter().find_map(|output| match output {
            Output::Close(verdict) => Some(verdict),
            _ => None,
        })
    }

    fn running(now: Instant) -> Life {
        let (mut life, _) = Life::begin(limits(), now);
        for input in [Input::InstanceMade, Input::StateReady, Input::Launched] {
            assert_eq!(life.advance(now, input).len(), 1);
        }
        life
    }

    #[test]
    fn a_job_that_returns_is_completed_after_its_shutdown() {
        let now = Instant::now();
        let mut life = running(now);
        let outputs = life.advance(now, Input::EntrypointReturned(Ok(())));
        assert_eq!(outputs, [Output::CallShutdown { reason: "entrypoint returned".into() }]);
        let outputs = life.advance(now, Input::ShutdownReturned);
        assert_eq!(closing(&outputs).unwrap().code, Code::Completed);
        assert_eq!(life.wake_at(), None);
    }

    #[test]
    fn who_asked_decides_the_code() {
        for (by, code) in
            [(StopBy::Guest, Code::Completed), (StopBy::Dispatcher, Code::Terminated), (StopBy::Drain, Code::Drained)]
        {
            let now = Instant::now();
            let mut life = running(now);
            let outputs = life.advance(now, Input::StopAsked { by, reason: "enough".into() });
            assert!(matches!(outputs.as_slice(), [Output::AskGuestToStop { .. }]));
            life.advance(now, Input::EntrypointReturned(Ok(())));
            let outputs = life.advance(now, Input::ShutdownReturned);
            assert_eq!(closing(&outputs).unwrap(), &Verdict::new(code, "enough"));
        }
    }

    #[test]
    fn the_grace_covers_the_rest_of_the_run_and_the_shutdown() {
        let now = Instant::now();
        let mut life = running(now);
        life.advance(now, Input::StopAsked { by: StopBy::Drain, reason: "drain".into() });
        let later = now + Duration::from_secs(9);
        life.advance(later, Input::EntrypointReturned(Ok(())));
        assert_eq!(life.wake_at(), Some(now + Duration::from_secs(10)));
        let outputs = life.advance(now + Duration::from_secs(10), Input::TimeUp);
        assert!(matches!(outputs.as_slice(), [Output::KillGuest(Kill::ShutdownTimeout { .. })]));
        let outputs = life.advance(now + Duration::from_secs(11), Input::TimeUp);
        assert_eq!(closing(&outputs).unwrap().code, Code::ShutdownTimeout);
    }

    #[test]
    fn time_is_warned_of_once_and_then_kills() {
        let now = Instant::now();
        let mut life = running(now);
        assert_eq!(life.wake_at(), Some(now + Duration::from_secs(48)));
        let outputs = life.advance(now + Duration::from_secs(48), Input::TimeUp);
        assert!(matches!(outputs.as_slice(), [Output::WarnOfTime { .. }]));
        assert_eq!(life.wake_at(), Some(now + Duration::from_secs(60)));
        let outputs = life.advance(now + Duration::from_secs(60), Input::TimeUp);
        assert!(matches!(outputs.as_slice(), [Output::KillGuest(Kill::Deadline { .. })]));
    }

    #[test]
    fn a_stop_before_the_launch_is_delivered_at_the_launch() {
        let now = Instant::now();
        let (mut life, _) = Life::begin(limits(), now);
        assert!(life.advance(now, Input::StopAsked { by: StopBy::Drain, reason: "d".into() }).is_empty());
        life.advance(now, Input::InstanceMade);
        life.advance(now, Input::StateReady);
        let outputs = life.advance(now + Duration::from_secs(5), Input::Launched);
        assert!(matches!(outputs.as_slice(), [Output::Publish(Notice::Launched), Output::AskGuestToStop { .. }]));
        assert_eq!(life.wake_at(), Some(now + Duration::from_secs(15)));
    }

    fn any_crash() -> impl Strategy<Value = Crash> {
        let trap = Crash::Trap { kind: TrapKind::Unreachable, detail: "d".into(), backtrace: Vec::new() };
        prop_oneof![
            Just(trap),
            Just(Crash::OutOfFuel { backtrace: Vec::new() }),
            Just(Crash::Killed { kill: Kill::Operator, backtrace: Vec::new() }),
            any::<u8>().prop_map(Crash::Exit),
            Just(Crash::InitFailed("no".into())),
            Just(Crash::Host("bug".into())),
        ]
    }

    fn any_input() -> impl Strategy<Value = Input> {
        let by = prop_oneof![Just(StopBy::Guest), Just(StopBy::Dispatcher), Just(StopBy::Drain)];
        prop_oneof![
            3 => Just(Input::InstanceMade),
            3 => Just(Input::StateReady),
            3 => Just(Input::Launched),
            2 => by.prop_map(|by| Input::StopAsked { by, reason: "r".into() }),
            1 => Just(Input::KillAsked),
            1 => Just(Input::Warned(Warning::SlowToYield { ran: Duration::from_secs(1) })),
            2 => prop_oneof![Just(Ok(())), Just(Err("e".to_owned()))].prop_map(Input::EntrypointReturned),
            2 => Just(Input::ShutdownReturned),
            1 => any_crash().prop_map(Input::Crashed),
            3 => Just(Input::TimeUp),
        ]
    }

    /// Position of a notice in the order that every sink sees; a warning may come anywhere.
    fn rank(output: &Output) -> Option<u8> {
        match output {
            Output::Publish(Notice::Created) => Some(0),
            Output::Publish(Notice::Started) => Some(1),
            Output::Publish(Notice::Ready) => Some(2),
            Output::Publish(Notice::Launched) => Some(3),
            Output::Publish(Notice::Killed { .. }) => Some(4),
            Output::Close(_) => Some(5),
            _ => None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever happens in whatever order, time alone closes a life in the end, exactly once, and what is published
        /// is in order, each once.
        #[test]
        fn any_order_of_events_gives_one_verdict(
            events in prop::collection::vec((any_input(), 0_u64..20_000), 0..40)
        ) {
            let mut now = Instant::now();
            let (mut life, first) = Life::begin(limits(), now);
            let mut outputs = vec![first];
            for (input, millis) in events {
                now += Duration::from_millis(millis);
                outputs.extend(life.advance(now, input));
            }
            let mut wakes = 0;
            while let Some(at) = life.wake_at() {
                now = now.max(at);
                outputs.extend(life.advance(now, Input::TimeUp));
                wakes += 1;
                prop_assert!(wakes < 10, "time alone does not close it");
            }
            let ranks: Vec<u8> = outputs.iter().filter_map(rank).collect();
            prop_assert!(ranks.windows(2).all(|pair| pair[0] < pair[1]), "{ranks:?}");
            prop_assert_eq!(ranks.last(), Some(&5));
            prop_assert!(life.advance(now, Input::KillAsked).is_empty());
            let verdict = closing(&outputs).unwrap();
            let killed = outputs.iter().any(|o| matches!(o, Output::Publish(Notice::Killed { .. })));
            prop_assert!(!killed || verdict.code.class() > wasm_worker_core::verdict::Class::Trapped, "{verdict:?}");
        }
    }
}

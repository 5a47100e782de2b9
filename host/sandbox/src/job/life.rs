//! The decisions about one job, as a state machine without I/O: inputs with their times in, outputs out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::usage::micros;
use wasm_worker_core::verdict::{Code, Verdict};

use super::run::{Crash, KILL_GRACE, exit_detail};
use super::step::{Input, Notice, Output, Phase};
use crate::guest::control::StopBy;
use crate::guest::kill::Kill;
use crate::settings::Limits;

/// Share of `max-duration` after which the job is warned, in percent.
const WARNING_PERCENT: u32 = 80;

/// The state of one job.
pub(super) struct Life {
    /// The id of the job, for the log.
    job: String,
    phase: Phase,
    limits: Arc<Limits>,
    /// The time of the admission.
    created: Instant,
    /// The time of the launch.
    launched: Option<Instant>,
    /// The first request to stop: its origin, its reason, and the end of its grace.
    stop: Option<(StopBy, String, Instant)>,
    /// Whether the warning about `max-duration` has been given.
    time_warned: bool,
}

impl Life {
    /// The life of a job that is admitted.
    pub(super) fn begin(job: String, limits: Arc<Limits>, now: Instant) -> (Self, Output) {
        let life =
            Self { job, phase: Phase::Created, limits, created: now, launched: None, stop: None, time_warned: false };
        (life, Output::Publish(Notice::Created))
    }

    /// The id of the job.
    pub(super) fn job(&self) -> &str {
        &self.job
    }

    /// The time of the launch.
    pub(super) fn launched(&self) -> Option<Instant> {
        self.launched
    }

    /// Whether the agent has finished, and what it sent is being delivered.
    pub(super) fn is_delivering(&self) -> bool {
        matches!(self.phase, Phase::Delivering { .. })
    }

    /// Whether the job is to be killed, and the guest has not noticed it.
    pub(super) fn is_killing(&self) -> bool {
        matches!(self.phase, Phase::Killing { .. })
    }

    /// Whether the job is asked to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// The time at which [`Input::TimeUp`] is due, whatever else happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Created | Phase::Started | Phase::Ready => Some(self.created + self.limits.init_timeout),
            Phase::Running => [self.deadline(), self.time_warning(), self.grace_end()].into_iter().flatten().min(),
            Phase::Delivering { until, .. } | Phase::Killing { until, .. } => Some(*until),
            Phase::Closed => None,
        }
    }

    /// Handle one input. The job's state changes here and nowhere else, and each change of the phase is logged with its cause.
    pub(super) fn advance(&mut self, now: Instant, input: Input) -> Vec<Output> {
        let (old, why) = (self.phase.name(), input.name());
        let outputs = self.handle(now, input);
        let new = self.phase.name();
        if new != old {
            tracing::trace!(target: "host", job = self.job, "{old} → {new} ({why})");
        }
        outputs
    }

    fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        match (&self.phase, input) {
            (Phase::Closed, _) => Vec::new(),
            (_, Input::Crashed(crash)) => self.close_crashed(now, crash),
            (_, Input::Warned(warning)) => vec![Output::Publish(Notice::of_warning(&warning))],
            (_, Input::TimeUp) => self.time_up(now),
            (Phase::Killing { .. }, Input::KillAsked | Input::StopAsked { .. }) => Vec::new(),
            // The call has returned, so no guest runs: a job can also be killed before its launch.
            (Phase::Killing { kill, .. }, _) => {
                let kill = kill.clone();
                self.close_killed(now, &kill, Vec::new())
            }
            (_, Input::KillAsked) => self.kill(now, now, Kill::Operator),
            (_, Input::StopAsked { by, reason }) => self.stop(now, by, reason),
            (Phase::Created, Input::InstanceMade) => self.enter(Phase::Started, Notice::Started),
            (Phase::Started, Input::StateReady) => self.enter(Phase::Ready, Notice::Ready),
            (Phase::Ready, Input::Launched) => self.launch(now),
            (Phase::Running, Input::StepReturned) => Vec::new(),
            (Phase::Running, Input::Finished(result)) => self.finish(now, result),
            (Phase::Running, Input::Stalled { detail }) => self.close(Verdict::new(Code::Stalled, detail)),
            (Phase::Delivering { result, .. }, Input::Delivered) => {
                let verdict = self.verdict_of(result.clone());
                self.close(verdict)
            }
            (phase, input) => {
                let detail = format!("unexpected input `{}` in phase `{}`", input.name(), phase.name());
                self.close(Verdict::new(Code::HostFault, detail))
            }
        }
    }

    fn enter(&mut self, phase: Phase, notice: Notice) -> Vec<Output> {
        self.phase = phase;
        vec![Output::Publish(notice)]
    }

    fn launch(&mut self, now: Instant) -> Vec<Output> {
        self.launched = Some(now);
        let mut outputs = self.enter(Phase::Running, Notice::Launched);
        // A stop was asked before the launch: its grace begins here.
        if let Some((by, reason, _)) = self.stop.take() {
            outputs.extend(self.stop(now, by, reason));
        }
        outputs
    }

    fn stop(&mut self, now: Instant, by: StopBy, reason: String) -> Vec<Output> {
        if self.stop.is_some() || matches!(self.phase, Phase::Delivering { .. }) {
            return Vec::new();
        }
        let grace = self.limits.shutdown_grace;
        self.stop = Some((by, reason.clone(), now + grace));
        match self.phase {
            Phase::Running => vec![Output::AskGuestToStop { by, reason, grace }],
            _ => Vec::new(),
        }
    }

    fn finish(&mut self, now: Instant, result: Result<(), String>) -> Vec<Output> {
        let until = self.grace_end().unwrap_or(now + self.limits.shutdown_grace);
        self.phase = Phase::Delivering { result, until };
        Vec::new()
    }

    fn time_up(&mut self, now: Instant) -> Vec<Output> {
        let Some(due) = self.wake_at().filter(|due| now >= *due) else { return Vec::new() };
        let limits = self.limits.clone();
        match &self.phase {
            Phase::Created | Phase::Started | Phase::Ready => {
                self.kill(now, due, Kill::InitTimeout { limit: limits.init_timeout })
            }
            Phase::Running if self.grace_end() == Some(due) => {
                let kill = self.kill_after_grace(limits.shutdown_grace);
                self.kill(now, due, kill)
            }
            Phase::Running if self.deadline() == Some(due) => {
                self.kill(now, due, Kill::Deadline { limit: limits.max_duration.unwrap_or_default() })
            }
            Phase::Running => {
                self.time_warned = true;
                let used = self.launched.map(|at| now - at).unwrap_or_default();
                vec![Output::WarnOfTime { used, limit: limits.max_duration.unwrap_or_default() }]
            }
            // The agent has done its part. What is not delivered by now is discarded.
            Phase::Delivering { result, .. } => {
                let verdict = self.verdict_of(result.clone());
                self.close(verdict)
            }
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

    /// The reason to kill a job that was asked to stop and did not.
    fn kill_after_grace(&self, grace: Duration) -> Kill {
        match &self.stop {
            Some((StopBy::RoomLost | StopBy::PutOut, why, _)) => Kill::Disconnected { why: why.clone(), grace },
            Some((StopBy::Guest | StopBy::Dispatcher | StopBy::Drain | StopBy::RoomEnded, ..)) | None => {
                Kill::ShutdownTimeout { grace }
            }
        }
    }

    fn kill(&mut self, now: Instant, due: Instant, kill: Kill) -> Vec<Output> {
        self.phase = Phase::Killing { kill: kill.clone(), due, until: now + KILL_GRACE };
        vec![Output::KillGuest(kill)]
    }

    fn close_crashed(&mut self, now: Instant, crash: Crash) -> Vec<Output> {
        match crash {
            Crash::Killed { kill, backtrace } => self.close_killed(now, &kill, backtrace),
            Crash::Exit { status, printed } => {
                let verdict = self.verdict_of_exit(status, &printed);
                self.close(verdict)
            }
            Crash::OutOfFuel { backtrace } => {
                let detail = format!("used up {} units of fuel", self.limits.fuel.unwrap_or(u64::MAX));
                let verdict = Verdict { backtrace, ..Verdict::new(Code::OutOfFuel, detail) };
                self.close_by_force(verdict)
            }
            Crash::Trap { kind, detail, backtrace } => {
                let code = match &self.phase {
                    Phase::Created | Phase::Started | Phase::Ready => Code::InitFailed,
                    _ => Code::Trapped,
                };
                let verdict = Verdict::new(code, detail);
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
        let kill_lag_us = self.kill_lag(now, kill).map(micros);
        self.close_by_force(Verdict { backtrace, kill_lag_us, ..Verdict::new(kill.code(), kill.to_string()) })
    }

    fn close_by_force(&mut self, verdict: Verdict) -> Vec<Output> {
        let mut outputs = vec![Output::Publish(Notice::Killed { code: verdict.code, detail: verdict.detail.clone() })];
        outputs.extend(self.close(verdict));
        outputs
    }

    /// The time from the passed limit to the end of the guest.
    fn kill_lag(&self, now: Instant, kill: &Kill) -> Option<Duration> {
        match (&self.phase, kill) {
            (_, Kill::Unresponsive { ran, limit }) => Some(ran.saturating_sub(*limit)),
            (Phase::Killing { due, .. }, _) => Some(now.saturating_duration_since(*due)),
            _ => None,
        }
    }

    /// The verdict on a guest that called `exit`, which ends the job as `finish` does, but what its step sent is not delivered.
    fn verdict_of_exit(&self, status: u8, printed: &str) -> Verdict {
        let detail = exit_detail(status, printed);
        match (&self.phase, status) {
            (Phase::Created | Phase::Started | Phase::Ready, _) => Verdict::new(Code::InitFailed, detail),
            (_, 0) => Verdict { detail, ..self.verdict_of(Ok(())) },
            (_, _) => self.verdict_of(Err(detail)),
        }
    }

    /// The verdict on an agent that finished.
    fn verdict_of(&self, result: Result<(), String>) -> Verdict {
        match (result, &self.stop) {
            (Err(error), _) => Verdict::new(Code::Failed, error),
            (Ok(()), None) => Verdict::new(Code::Completed, "the agent finished"),
            (Ok(()), Some((by, reason, _))) => {
                let code = match by {
                    StopBy::Guest | StopBy::RoomLost => Code::Completed,
                    StopBy::Dispatcher | StopBy::RoomEnded => Code::Terminated,
                    StopBy::Drain => Code::Drained,
                    StopBy::PutOut => Code::Disconnected,
                };
                Verdict::new(code, reason.as_str())
            }
        }
    }

    fn close(&mut self, verdict: Verdict) -> Vec<Output> {
        self.phase = Phase::Closed;
        vec![Output::Close(verdict)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasm_worker_core::verdict::TrapKind;

    use super::*;
    use crate::guest::kill::Warning;

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
        let (mut life, _) = Life::begin("j".into(), limits(), now);
        for input in [Input::InstanceMade, Input::StateReady, Input::Launched] {
            assert_eq!(life.advance(now, input).len(), 1);
        }
        life
    }

    #[test]
    fn job_is_completed_once_it_is_delivered() {
        let now = Instant::now();
        let mut life = running(now);
        assert!(life.advance(now, Input::StepReturned).is_empty());
        assert!(life.advance(now, Input::Finished(Ok(()))).is_empty() && life.is_delivering());
        assert_eq!(life.wake_at(), Some(now + Duration::from_secs(10)));
        let outputs = life.advance(now, Input::Delivered);
        assert_eq!(closing(&outputs).unwrap().code, Code::Completed);
        assert_eq!(life.wake_at(), None);
    }

    #[test]
    fn origin_of_a_stop_decides_the_code() {
        for (by, code) in [
            (StopBy::Guest, Code::Completed),
            (StopBy::Dispatcher, Code::Terminated),
            (StopBy::Drain, Code::Drained),
            (StopBy::RoomLost, Code::Completed),
            (StopBy::RoomEnded, Code::Terminated),
            (StopBy::PutOut, Code::Disconnected),
        ] {
            let now = Instant::now();
            let mut life = running(now);
            let outputs = life.advance(now, Input::StopAsked { by, reason: "enough".into() });
            assert!(matches!(outputs.as_slice(), [Output::AskGuestToStop { .. }]));
            life.advance(now, Input::Finished(Ok(())));
            let outputs = life.advance(now, Input::Delivered);
            assert_eq!(closing(&outputs).unwrap(), &Verdict::new(code, "enough"));
        }
    }

    #[test]
    fn grace_ends_a_job_that_does_not_finish() {
        let now = Instant::now();
        let mut life = running(now);
        life.advance(now, Input::StopAsked { by: StopBy::Drain, reason: "drain".into() });
        assert!(life.is_stopping());
        assert_eq!(life.wake_at(), Some(now + Duration::from_secs(10)));
        let outputs = life.advance(now + Duration::from_secs(10), Input::TimeUp);
        assert!(matches!(outputs.as_slice(), [Output::KillGuest(Kill::ShutdownTimeout { .. })]));
        let outputs = life.advance(now + Duration::from_secs(11), Input::TimeUp);
        assert_eq!(closing(&outputs).unwrap().code, Code::ShutdownTimeout);
    }

    #[test]
    fn grace_after_a_lost_room_ends_as_disconnected() {
        for (by, code) in [
            (StopBy::RoomLost, Code::Disconnected),
            (StopBy::PutOut, Code::Disconnected),
            (StopBy::RoomEnded, Code::ShutdownTimeout),
        ] {
            let now = Instant::now();
            let mut life = running(now);
            life.advance(now, Input::StopAsked { by, reason: "the room is lost".into() });
            life.advance(now + Duration::from_secs(10), Input::TimeUp);
            let outputs = life.advance(now + Duration::from_secs(11), Input::TimeUp);
            let verdict = closing(&outputs).unwrap();
            assert_eq!(verdict.code, code);
            assert_eq!(verdict.detail.starts_with("the room is lost, and"), code == Code::Disconnected, "{verdict:?}");
        }
    }

    #[test]
    fn grace_bounds_the_delivery_and_the_result_counts() {
        let now = Instant::now();
        let mut life = running(now);
        life.advance(now, Input::StopAsked { by: StopBy::Drain, reason: "drain".into() });
        life.advance(now + Duration::from_secs(9), Input::Finished(Err("no".into())));
        assert_eq!(life.wake_at(), Some(now + Duration::from_secs(10)));
        let outputs = life.advance(now + Duration::from_secs(10), Input::TimeUp);
        assert_eq!(closing(&outputs).unwrap(), &Verdict::new(Code::Failed, "no"));
    }

    #[test]
    fn stalled_job_is_closed_without_a_kill() {
        let now = Instant::now();
        let mut life = running(now);
        let outputs = life.advance(now, Input::Stalled { detail: "nothing".into() });
        assert_eq!(outputs, [Output::Close(Verdict::new(Code::Stalled, "nothing"))]);
    }

    #[test]
    fn time_limit_warns_once_and_then_kills() {
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
    fn stop_before_the_launch_is_delivered_at_the_launch() {
        let now = Instant::now();
        let (mut life, _) = Life::begin("j".into(), limits(), now);
        assert!(life.advance(now, Input::StopAsked { by: StopBy::Drain, reason: "d".into() }).is_empty());
        life.advance(now, Input::InstanceMade);
        life.advance(now, Input::StateReady);
        let outputs = life.advance(now + Duration::from_secs(5), Input::Launched);
        assert!(matches!(outputs.as_slice(), [Output::Publish(Notice::Launched), Output::AskGuestToStop { .. }]));
        assert_eq!(life.wake_at(), Some(now + Duration::from_secs(15)));
    }

    #[test]
    fn a_job_that_is_killed_before_its_launch_closes_when_its_call_returns() {
        for returned in [Input::InstanceMade, Input::StateReady, Input::Launched] {
            let now = Instant::now();
            let (mut life, _) = Life::begin("j".into(), limits(), now);
            life.advance(now, Input::KillAsked);
            assert!(life.advance(now, Input::StopAsked { by: StopBy::Drain, reason: "d".into() }).is_empty());
            assert_eq!(closing(&life.advance(now, returned)).unwrap().code, Code::Killed);
        }
    }

    /// The verdict on a running job that is killed at `killed_at` and whose guest is gone at `gone_at`, by this crash.
    fn killed(killed_at: Duration, gone_at: Duration, last: Input) -> Verdict {
        let now = Instant::now();
        let mut life = running(now);
        let outputs = life.advance(now + killed_at, Input::KillAsked);
        assert_eq!(outputs, [Output::KillGuest(Kill::Operator)]);
        closing(&life.advance(now + gone_at, last)).unwrap().clone()
    }

    #[test]
    fn kill_lag_of_a_waiting_job_counts_from_the_kill_to_its_end() {
        let crash = Crash::Killed { kill: Kill::Operator, backtrace: vec!["wait".into()] };
        let verdict = killed(Duration::from_secs(5), Duration::from_micros(5_000_150), Input::Crashed(crash));
        assert_eq!((verdict.code, verdict.kill_lag_us), (Code::Killed, Some(150)));
        assert_eq!(verdict.backtrace, ["wait"]);
    }

    #[test]
    fn kill_lag_of_a_looping_job_counts_from_its_deadline() {
        let now = Instant::now();
        let mut life = running(now);
        life.advance(now + Duration::from_secs(48), Input::TimeUp);
        // The supervisor is late by 2 ms, and the guest notices 7 ms later.
        let outputs = life.advance(now + Duration::from_millis(60_002), Input::TimeUp);
        let [Output::KillGuest(kill)] = outputs.as_slice() else { panic!("{outputs:?}") };
        let crash = Crash::Killed { kill: kill.clone(), backtrace: Vec::new() };
        let outputs = life.advance(now + Duration::from_millis(60_009), Input::Crashed(crash));
        let verdict = closing(&outputs).unwrap();
        assert_eq!((verdict.code, verdict.kill_lag_us), (Code::Deadline, Some(9_000)));
    }

    #[test]
    fn kill_lag_of_a_guest_that_never_notices_is_the_kill_grace() {
        let verdict = killed(Duration::ZERO, KILL_GRACE, Input::TimeUp);
        assert_eq!((verdict.code, verdict.kill_lag_us), (Code::Killed, Some(micros(KILL_GRACE))));
    }

    #[test]
    fn kill_lag_of_an_unresponsive_job_is_its_run_beyond_the_limit() {
        let now = Instant::now();
        let mut life = running(now);
        let (ran, limit) = (Duration::from_millis(10_004), Duration::from_secs(10));
        let crash = Crash::Killed { kill: Kill::Unresponsive { ran, limit }, backtrace: vec!["spin".into()] };
        let outputs = life.advance(now + Duration::from_secs(11), Input::Crashed(crash));
        let verdict = closing(&outputs).unwrap();
        assert_eq!((verdict.code, verdict.kill_lag_us), (Code::Unresponsive, Some(4_000)));
    }

    fn any_crash() -> impl Strategy<Value = Crash> {
        let trap = Crash::Trap { kind: TrapKind::Unreachable, detail: "d".into(), backtrace: Vec::new() };
        prop_oneof![
            Just(trap),
            Just(Crash::OutOfFuel { backtrace: Vec::new() }),
            Just(Crash::Killed { kill: Kill::Operator, backtrace: Vec::new() }),
            any::<u8>().prop_map(|status| Crash::Exit { status, printed: "last".into() }),
            Just(Crash::InitFailed("no".into())),
            Just(Crash::Host("bug".into())),
        ]
    }

    fn any_input() -> impl Strategy<Value = Input> {
        let by = prop_oneof![
            Just(StopBy::Guest),
            Just(StopBy::Dispatcher),
            Just(StopBy::Drain),
            Just(StopBy::RoomLost),
            Just(StopBy::RoomEnded),
            Just(StopBy::PutOut),
        ];
        prop_oneof![
            3 => Just(Input::InstanceMade),
            3 => Just(Input::StateReady),
            3 => Just(Input::Launched),
            2 => by.prop_map(|by| Input::StopAsked { by, reason: "r".into() }),
            1 => Just(Input::KillAsked),
            1 => Just(Input::Warned(Warning::SlowToYield { ran: Duration::from_secs(1) })),
            3 => Just(Input::StepReturned),
            2 => prop_oneof![Just(Ok(())), Just(Err("e".to_owned()))].prop_map(Input::Finished),
            2 => Just(Input::Delivered),
            1 => Just(Input::Stalled { detail: "s".into() }),
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
            let (mut life, first) = Life::begin("j".into(), limits(), now);
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

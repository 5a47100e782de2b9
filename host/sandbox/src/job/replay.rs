//! Runs a recorded job again, without a world: each step is given the recorded events at the recorded time, and its calls, its
//! fuel and its end are compared with the recorded ones. A guest cannot tell a replay from its job.
//!
//! A step that was killed for its time, or by an operator, is given the fuel that it had used by then, so that it ends there. A step
//! that was killed for its memory is refused the same growth.
//!
//! Bounds: a step has the time limit of the settings; the first difference ends the replay.

use std::sync::Arc;

use serde::Serialize;
use tokio::time::Instant;

use super::compared::{Compared, Difference, is_by_time, refused};
use super::instance::{Instance, Template};
use super::run::{Crash, call, within};
use super::step_end::end_of;
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::clock::{GuestClock, Moment};
use crate::guest::contract::Decision;
use crate::guest::events::id_to_give;
use crate::guest::kill::Kill;
use crate::guest::meter::fuel_used;
use crate::guest::tape::Tape;
use crate::job::limits;
use crate::recording::reader::{Reader, RecordingError};
use crate::recording::record::{Decided, Inside, Step};
use crate::recording::view::{EndView, end_view};

/// What a replay compares, and where it ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Whether the agent is another build: fuel and backtraces are not compared then.
    pub other_build: bool,
    /// The last step to run; all without it.
    pub until: Option<u32>,
}

/// What became of a replay.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Replayed {
    /// Steps that were run.
    pub steps: u32,
    /// Fuel of these steps in the recording.
    pub recorded_fuel: u64,
    /// Fuel of these steps in the replay.
    pub fuel: u64,
    /// The first difference; none where there was none.
    pub difference: Option<Difference>,
    /// The end of the last step, where it did not return.
    pub end: Option<EndView>,
}

/// The reason why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording cannot be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The recording, or this machine, does not allow it.
    #[error("`{recording}` cannot be replayed: {why}")]
    Impossible {
        /// The path of the recording.
        recording: String,
        /// The reason.
        why: String,
    },
    /// The host failed.
    #[error("the replay failed: {0}")]
    Host(String),
}

/// Replay a recording to its end, or to its first difference.
pub(crate) async fn replay(
    template: Arc<Template>,
    mut reader: Reader,
    how: How,
) -> (Reader, Result<Replayed, ReplayError>) {
    let replayed = run(&template, &mut reader, how).await;
    (reader, replayed)
}

async fn run(template: &Template, reader: &mut Reader, how: How) -> Result<Replayed, ReplayError> {
    let decided = check(reader)?.clone();
    let mut replay = Replay::begin(template, how).await?;
    let mut replayed = Replayed { difference: replay.decide(&decided).await?, ..Replayed::default() };
    let Some(launched) = reader.launched().filter(|_| replayed.difference.is_none()) else { return Ok(replayed) };
    replay.launch(&decided, launched)?;
    while how.until.is_none_or(|until| replayed.steps < until) {
        let step = reader.next()?;
        if reader.gap().is_some() {
            return Err(impossible(reader, MISSING));
        }
        let Some(step) = step else { break };
        let (recorded, end) = (step.facts.fuel, end_view(&step.facts.end));
        let (difference, fuel) = replay.step(step, launched).await?;
        replayed.steps += 1;
        replayed.recorded_fuel += recorded;
        replayed.fuel += fuel;
        (replayed.difference, replayed.end) = (difference, end);
        if replayed.difference.is_some() || replayed.end.is_some() {
            break;
        }
    }
    Ok(replayed)
}

const MISSING: &str = "its first steps are missing: `--record-failed` keeps the newest part of a long job; record the job with `--record`";

/// What `decide` was given, if the recording can be replayed here.
fn check(reader: &Reader) -> Result<&Decided, ReplayError> {
    let (recorded, here) = (&reader.head().arch, std::env::consts::ARCH);
    if recorded != here {
        let why = format!("it was recorded on {recorded}, and this machine is {here}; numbers may differ");
        return Err(impossible(reader, &why));
    }
    let without = || impossible(reader, "its contents were left out, by `record-content`");
    reader.decided().ok_or_else(without)
}

fn impossible(reader: &Reader, why: &str) -> ReplayError {
    ReplayError::Impossible { recording: reader.path().display().to_string(), why: why.to_owned() }
}

fn failed(crash: Crash) -> ReplayError {
    let verdict = crash.verdict();
    ReplayError::Host(format!("{}: {}", verdict.code, verdict.detail))
}

/// A job that runs again.
struct Replay<'a> {
    template: &'a Template,
    instance: Instance,
    how: How,
}

impl<'a> Replay<'a> {
    async fn begin(template: &'a Template, how: How) -> Result<Self, ReplayError> {
        let mut instance = template.empty_within_init().await.map_err(failed)?;
        let control = instance.control();
        let create = async {
            instance.instantiate(template).await?;
            instance.prewarm(template).await?;
            instance.refuel()
        };
        template.init_within(&control, create).await.map_err(failed)?;
        Ok(Self { template, instance, how })
    }

    /// Ask the agent again.
    async fn decide(&mut self, decided: &Decided) -> Result<Option<Difference>, ReplayError> {
        let Instance { store, agent: Some(agent), .. } = &mut self.instance else { return Err(no_instance()) };
        let state = store.data_mut();
        let control = state.control.clone();
        state.begin_decide(decided.seed, std::time::Duration::ZERO);
        state.clock = GuestClock::replayed(Moment::of_units(decided.at));
        let called = call(&control, agent.call_decide(&mut *store, &decided.offer));
        let answer = self.template.init_within(&control, called).await;
        let fuel = fuel_used(&self.template.limits, store.get_fuel().unwrap_or(0));
        let differs = |what, recorded: String, replayed: String| {
            Ok(Some(Difference { step: 0, what, recorded: vec![recorded], replayed: vec![replayed] }))
        };
        let accepted = format!("accepted as {:?}", decided.acceptance);
        match answer {
            Err(Crash::Host(why)) => Err(ReplayError::Host(why)),
            Err(crash) => differs("end", accepted, crash.verdict().detail),
            Ok(Decision::Reject(rejection)) => differs("decision", accepted, format!("rejected: {}", rejection.reason)),
            Ok(Decision::Accept(acceptance)) if acceptance != decided.acceptance => {
                differs("decision", accepted, format!("accepted as {acceptance:?}"))
            }
            Ok(Decision::Accept(_)) if fuel != decided.fuel && !self.how.other_build => {
                differs("fuel", decided.fuel.to_string(), fuel.to_string())
            }
            Ok(Decision::Accept(_)) => Ok(None),
        }
    }

    fn launch(&mut self, decided: &Decided, launched: u64) -> Result<(), ReplayError> {
        let state = self.instance.store.data_mut();
        // The memory of the host is not that of the job: it is the record that says when memory was refused.
        state.meter.lift_memory_limit();
        let assigned = state.assign(&decided.offer.id, 0);
        assigned.map_err(|kill| failed(Crash::Killed { kill, backtrace: Vec::new() }))?;
        state.launch(Instant::now(), std::time::Duration::ZERO);
        state.clock = GuestClock::replayed(Moment::of_units(launched));
        self.instance.reset_use().map_err(failed)
    }

    /// Run one step. Returns the difference and the fuel.
    async fn step(&mut self, step: Step, launched: u64) -> Result<(Option<Difference>, u64), ReplayError> {
        let Step { number, at, inside, facts } = step;
        let Inside::Whole { mut events, calls } = inside else { return Err(no_instance()) };
        let Instance { store, agent: Some(agent), .. } = &mut self.instance else { return Err(no_instance()) };
        let state = store.data_mut();
        state.clock.show(Moment::of_units(launched.saturating_add(at)));
        for event in &mut events {
            if let Some(difference) = begin_event(event, state, number)? {
                return Ok((Some(difference), 0));
            }
        }
        state.tape = Tape::Replaying(facts.budgets.iter().copied().collect());
        state.meter.begin_step(refused(&facts.end));
        let now_ms = state.clock.now().as_ms();
        let control = state.control.clone();
        control.clock.call_begins();
        if is_by_time(&facts.end) {
            give_fuel(store, facts.fuel)?;
        }
        let before = store.get_fuel().unwrap_or(0);
        let limit = self.template.limits.unresponsive_timeout;
        let resume = call(&control, agent.call_resume(&mut *store, now_ms, &events));
        let kill = Kill::Unresponsive { ran: limit, limit };
        let outcome = within(&control, limit, kill, &self.template.engine, resume).await;
        if let Err(Crash::Host(why)) = &outcome {
            return Err(ReplayError::Host(why.clone()));
        }
        let fuel = before.saturating_sub(store.get_fuel().unwrap_or(0));
        let state = store.data_mut();
        let end = end_of(Some(&outcome), state.meter.admissions());
        let compared = Compared { number, facts: &facts, calls: &calls, other_build: self.how.other_build };
        let difference = compared.with(&state.calls.look(), &end, fuel);
        let calls = state.calls.take_calls();
        let (_, charged) = state.calls.end_step(calls);
        state.meter.release(charged);
        Ok((difference, fuel))
    }
}

fn no_instance() -> ReplayError {
    ReplayError::Host("a step came before its instance, or without its contents".into())
}

/// Give the id of what begins outside, and keep the participants as the guest knows them.
fn begin_event(
    event: &mut Event,
    state: &mut crate::guest::HostState,
    step: u32,
) -> Result<Option<Difference>, ReplayError> {
    if let Some(recorded) = id_to_give(event) {
        let given = state.ids.next().map_err(|kill| ReplayError::Host(kill.to_string()))?;
        if given != *recorded {
            let [recorded, replayed] = [*recorded, given].map(|id| vec![format!("the next id is {id}")]);
            return Ok(Some(Difference { step, what: "ids", recorded, replayed }));
        }
    }
    state.participants.apply(event);
    Ok(None)
}

fn give_fuel(store: &mut wasmtime::Store<crate::guest::HostState>, fuel: u64) -> Result<(), ReplayError> {
    limits::give_fuel(store, fuel).map_err(|error| ReplayError::Host(error.to_string()))
}

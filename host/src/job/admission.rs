//! An offer, here and now: does the agent want it, and is there room? → [`Admitted`], which holds what it takes.
//!
//! Bound: an agent that does not decide within [`DECIDE_TIMEOUT`] has refused.

use std::sync::Arc;
use std::time::Duration;

use super::code_of;
use super::instance::{Instance, Template};
use super::refusal::{Reason, Refusal};
use super::run::{Crash, call};
use super::script::Scripted;
use super::verdict::{Code, Verdict};
use crate::engine::Engine;
use crate::hostcalls::contract::{Acceptance, Decision, JobInfo, Participant, Rejection};
use crate::hostcalls::control::Control;
use crate::hostcalls::kill::Kill;
use crate::hostcalls::log::clip;

/// The dispatcher is to be answered within 2 s, whatever happens.
const DECIDE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Of a participant's identity, and of its name.
const NAME_BYTES_MAX: usize = 256;

/// A job as it is offered.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What the dispatcher says about it.
    pub info: JobInfo,
    /// Who is in the room already.
    pub participants: Vec<Participant>,
    /// Events that come in once it runs.
    pub script: Arc<[Scripted]>,
}

/// A job that will run here.
pub(crate) struct Admitted {
    pub(crate) offer: Offer,
    pub(crate) acceptance: Acceptance,
    pub(crate) template: Arc<Template>,
    pub(crate) instance: Instance,
}

/// Offer a job to the agent. Answers within [`DECIDE_TIMEOUT`] for room and as much again for the decision, and, where the
/// agent has no snapshot and no instance is ready, `init-timeout` for its prewarm.
pub(crate) async fn admit(template: Arc<Template>, offer: Offer) -> Result<Admitted, Refusal> {
    let room = {
        let _timers = template.engine.timers().enter();
        tokio::time::timeout(DECIDE_TIMEOUT, template.acquire())
    };
    let full = |_| Refusal::new(Reason::Full, format!("no room within {DECIDE_TIMEOUT:?}"));
    let mut instance = room.await.map_err(full)?.map_err(Refusal::of)?;
    instance.control().log().begin(&offer.info.id);
    let decision = decide(&template, &mut instance, &offer).await;
    instance.control().log().finish();
    instance.settle();
    let acceptance = match decision.map_err(Refusal::of)? {
        Decision::Accept(acceptance) => acceptance,
        Decision::Reject(Rejection { reason, terminate }) => {
            return Err(Refusal { terminate, ..Refusal::new(Reason::Rejected, clip(&reason)) });
        }
    };
    if let Some(why) = unusable(&acceptance) {
        return Err(Refusal::new(Reason::DecideFailed, why));
    }
    let mut offer = offer;
    let participants = std::mem::take(&mut offer.participants);
    let assigned = instance.store.data_mut().assign(offer.info.clone(), participants);
    assigned.map_err(|kill| Refusal::of(Crash::Killed { kill, backtrace: Vec::new() }))?;
    Ok(Admitted { offer, acceptance, template, instance })
}

/// LiveKit's server takes no longer ones, and a worker keeps the identity of what has ended.
fn unusable(acceptance: &Acceptance) -> Option<String> {
    let Acceptance { identity, name, .. } = acceptance;
    let names = [("an identity", identity.as_deref().unwrap_or_default()), ("a name", name)];
    let (what, long) = names.into_iter().find(|(_, name)| name.len() > NAME_BYTES_MAX)?;
    Some(format!("the agent wants {what} of {} bytes; at most {NAME_BYTES_MAX} are allowed", long.len()))
}

async fn decide(template: &Template, instance: &mut Instance, offer: &Offer) -> Result<Decision, Crash> {
    let control = instance.control();
    let prepare = template.shelf.is_some() && instance.prewarmed.is_none();
    let limit = if prepare { DECIDE_TIMEOUT + template.limits.init_timeout } else { DECIDE_TIMEOUT };
    let call_decide = async {
        instance.instantiate(template).await?;
        instance.prewarm(template).await?;
        instance.refuel()?;
        let agent = instance.agent.as_ref().ok_or_else(|| Crash::Host("decide before the instance".into()))?;
        call(&control, agent.call_decide(&mut instance.store, &offer.info)).await
    };
    within(&control, limit, Kill::DecideTimeout { limit }, &template.engine, call_decide).await
}

/// The verdict on an agent that fails before it has a job: in its prewarm, or over an offer.
pub(crate) fn verdict_outside_a_job(crash: Crash) -> Verdict {
    match crash {
        Crash::Trap { kind, detail, backtrace } => {
            Verdict { trap: Some(kind), backtrace, ..Verdict::new(Code::InitFailed, detail) }
        }
        Crash::Killed { kill, backtrace } => Verdict { backtrace, ..Verdict::new(code_of(&kill), kill.to_string()) },
        Crash::OutOfFuel { backtrace } => {
            Verdict { backtrace, ..Verdict::new(Code::OutOfFuel, "used up `fuel-limit`") }
        }
        Crash::Exit(status) => Verdict::new(Code::InitFailed, format!("the agent exited with status {status}")),
        Crash::InitFailed(error) => Verdict::new(Code::InitFailed, error),
        Crash::NeedsHandle { import } => {
            Verdict::new(Code::HostFault, format!("`{import}` was refused although no snapshot is being taken"))
        }
        Crash::Host(error) => Verdict::new(Code::HostFault, error),
    }
}

/// Make an instance outside of a job, or prewarm one.
pub(crate) async fn init_within<T>(
    control: &Arc<Control>,
    template: &Template,
    guest: impl Future<Output = Result<T, Crash>>,
) -> Result<T, Crash> {
    let limit = template.limits.init_timeout;
    within(control, limit, Kill::InitTimeout { limit }, &template.engine, guest).await
}

/// Run a guest outside of a job, and kill it when it takes longer than `limit`.
pub(crate) async fn within<T>(
    control: &Arc<Control>,
    limit: Duration,
    kill: Kill,
    engine: &Engine,
    guest: impl Future<Output = Result<T, Crash>>,
) -> Result<T, Crash> {
    let (soft, hard) = {
        let _timers = engine.timers().enter();
        (tokio::time::sleep(limit), tokio::time::sleep(limit + super::KILL_GRACE))
    };
    let mut guest = std::pin::pin!(guest);
    tokio::select! {
        biased;
        result = &mut guest => return result,
        () = soft => {
            control.kill(kill.clone());
            engine.end_epoch();
        }
    }
    let killed = tokio::select! {
        biased;
        result = &mut guest => result.err(),
        () = hard => None,
    };
    Err(killed.unwrap_or(Crash::Killed { kill, backtrace: Vec::new() }))
}

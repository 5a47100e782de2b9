//! An offer, here and now: does the agent want it, and is there room? → [`Admitted`], which holds what it takes.
//!
//! Bound: an agent that does not decide within [`DECIDE_TIMEOUT`] has refused.

use std::sync::Arc;
use std::time::Duration;

use super::instance::{Instance, Template};
use super::run::{Crash, call};
use super::script::Scripted;
use crate::engine::Engine;
use crate::hostcalls::contract::{self, Decision, Rejection};
use crate::hostcalls::control::Control;
use crate::hostcalls::kill::Kill;
use wasm_worker_core::job::{Acceptance, JobInfo, Participant};
use wasm_worker_core::refusal::{Reason, Refusal};
use wasm_worker_core::text::clip;

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
    let mut instance = room.await.map_err(full)?.map_err(refused)?;
    instance.control().log().begin(&offer.info.id);
    let info: contract::JobInfo = offer.info.clone().into();
    let decision = decide(&template, &mut instance, &info).await;
    instance.control().log().finish();
    instance.settle();
    let acceptance = match decision.map_err(refused)? {
        Decision::Accept(acceptance) => Acceptance::from(acceptance),
        Decision::Reject(Rejection { reason, terminate }) => {
            return Err(Refusal { terminate, ..Refusal::new(Reason::Rejected, clip(&reason)) });
        }
    };
    if let Some(why) = unusable(&acceptance) {
        return Err(Refusal::new(Reason::DecideFailed, why));
    }
    let mut offer = offer;
    let participants = std::mem::take(&mut offer.participants).into_iter().map(Into::into).collect();
    let assigned = instance.store.data_mut().assign(info, participants);
    assigned.map_err(|kill| refused(Crash::Killed { kill, backtrace: Vec::new() }))?;
    Ok(Admitted { offer, acceptance, template, instance })
}

/// LiveKit's server takes no longer ones, and a worker keeps the identity of what has ended.
fn unusable(acceptance: &Acceptance) -> Option<String> {
    let Acceptance { identity, name, .. } = acceptance;
    let names = [("an identity", identity.as_deref().unwrap_or_default()), ("a name", name)];
    let (what, long) = names.into_iter().find(|(_, name)| name.len() > NAME_BYTES_MAX)?;
    Some(format!("the agent wants {what} of {} bytes; at most {NAME_BYTES_MAX} are allowed", long.len()))
}

async fn decide(template: &Template, instance: &mut Instance, info: &contract::JobInfo) -> Result<Decision, Crash> {
    let control = instance.control();
    let prepare = template.shelf.is_some() && instance.prewarmed.is_none();
    let limit = if prepare { DECIDE_TIMEOUT + template.limits.init_timeout } else { DECIDE_TIMEOUT };
    let call_decide = async {
        instance.instantiate(template).await?;
        instance.prewarm(template).await?;
        instance.refuel()?;
        let agent = instance.agent.as_ref().ok_or_else(|| Crash::Host("decide before the instance".into()))?;
        call(&control, agent.call_decide(&mut instance.store, info)).await
    };
    within(&control, limit, Kill::DecideTimeout { limit }, &template.engine, call_decide).await
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

fn refused(crash: Crash) -> Refusal {
    Refusal::decide_failed(crash.verdict())
}

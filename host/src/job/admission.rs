//! An offer, here and now: does the agent want it, and is there room? → [`Admitted`], which holds what it takes.
//!
//! Bound: an agent that does not decide within [`DECIDE_TIMEOUT`] has refused.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::code_of;
use super::instance::{Instance, Template};
use super::run::{Crash, call};
use super::script::Scripted;
use crate::hostcalls::Stage;
use crate::hostcalls::contract::{Acceptance, Decision, JobInfo, Participant};
use crate::hostcalls::control::{Control, Kill};

/// The dispatcher is to be answered within 2 s, whatever happens.
const DECIDE_TIMEOUT: Duration = Duration::from_millis(1_500);

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
    pub(crate) created: Instant,
}

/// A job that will not.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Stable name of the reason.
    pub reason: &'static str,
    /// In words.
    pub detail: String,
    /// Whether it may be offered to others.
    pub terminate: bool,
}

impl Refusal {
    /// The agent did not want it.
    pub const REJECTED: &'static str = "rejected";
    /// The agent could not say.
    pub const DECIDE_FAILED: &'static str = "decide-failed";
}

/// Offer a job to the agent. On a snapshot `decide` runs in an instance of its own; from the pool it runs in the one that
/// will run the job, because another prewarm for each offer would cost more than the job.
pub(crate) async fn admit(template: Arc<Template>, offer: Offer) -> Result<Admitted, Refusal> {
    let mut instance = template.take(Stage::Live).await.map_err(|crash| refusal(&crash))?;
    let acceptance = decide(&template, &mut instance, &offer).await?;
    if template.shelf.is_none() {
        // The slot is given back and taken again, so that nobody ever holds two.
        drop(instance);
        instance = template.empty(Stage::Live).await.map_err(|crash| refusal(&crash))?;
    }
    Ok(Admitted { offer, acceptance, template, instance, created: Instant::now() })
}

async fn decide(template: &Template, instance: &mut Instance, offer: &Offer) -> Result<Acceptance, Refusal> {
    let control = instance.control();
    let call_decide = async {
        instance.instantiate(template).await?;
        instance.prewarm(template).await?;
        let agent = instance.agent.as_ref().ok_or_else(|| Crash::Host("decide before the instance".into()))?;
        call(&control, agent.call_decide(&mut instance.store, &offer.info)).await
    };
    let limit = match template.shelf {
        Some(_) => DECIDE_TIMEOUT.max(template.limits.init_timeout),
        None => DECIDE_TIMEOUT,
    };
    let kill = Kill::DecideTimeout { limit };
    let decided = within(&control, limit, kill, template.engine.timers(), call_decide).await;
    match decided.map_err(|crash| crash.with_words(instance.store.data_mut().last_words.take())) {
        Ok(Decision::Accept(acceptance)) => Ok(acceptance),
        Ok(Decision::Reject(rejection)) => {
            Err(Refusal { reason: Refusal::REJECTED, detail: rejection.reason, terminate: rejection.terminate })
        }
        Err(crash) => Err(refusal(&crash)),
    }
}

fn refusal(crash: &Crash) -> Refusal {
    Refusal { reason: Refusal::DECIDE_FAILED, detail: describe(crash), terminate: false }
}

/// A crash in words, its code first.
pub(crate) fn describe(crash: &Crash) -> String {
    match crash {
        Crash::Trap { detail, .. } => format!("trapped: {detail}"),
        Crash::Killed { kill: kill @ Kill::DecideTimeout { .. }, .. } => kill.to_string(),
        Crash::Killed { kill, .. } => format!("{}: {kill}", code_of(kill)),
        Crash::OutOfFuel { .. } => "out-of-fuel: used up its fuel".into(),
        Crash::Exit(status) => format!("the agent exited with status {status}"),
        Crash::NeedsHandle { import } => format!("host-fault: `{import}` refused outside of a snapshot"),
        Crash::InitFailed(error) => error.clone(),
        Crash::Host(error) => format!("host-fault: {error}"),
    }
}

/// Make an instance outside of a job, or prewarm one.
pub(crate) async fn init_within<T>(
    control: &Arc<Control>,
    template: &Template,
    guest: impl Future<Output = Result<T, Crash>>,
) -> Result<T, Crash> {
    let limit = template.limits.init_timeout;
    within(control, limit, Kill::InitTimeout { limit }, template.engine.timers(), guest).await
}

/// Run a guest outside of a job, and kill it when it takes longer than `limit`.
async fn within<T>(
    control: &Arc<Control>,
    limit: Duration,
    kill: Kill,
    timers: &tokio::runtime::Handle,
    guest: impl Future<Output = Result<T, Crash>>,
) -> Result<T, Crash> {
    let (soft, hard) = {
        let _timers = timers.enter();
        (tokio::time::sleep(limit), tokio::time::sleep(limit + super::KILL_GRACE))
    };
    let mut guest = std::pin::pin!(guest);
    tokio::select! {
        biased;
        result = &mut guest => return result,
        () = soft => control.kill(kill.clone()),
    }
    let killed = tokio::select! {
        biased;
        result = &mut guest => result.err(),
        () = hard => None,
    };
    Err(killed.unwrap_or(Crash::Killed { kill, backtrace: Vec::new() }))
}

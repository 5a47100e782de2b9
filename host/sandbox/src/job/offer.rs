//! The decision of an agent about an offer: [`Offer`] → [`Admitted`], which holds the job's instance and so its slot.
//!
//! Bound: an agent that does not decide within [`DECIDE_TIMEOUT`] has refused.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::instance::{Instance, Template};
use super::run::{Crash, call, within};
use super::script::Scripted;
use crate::guest::Seed;
use crate::guest::clock::since_1970;
use crate::guest::contract::{self, Decision, Rejection};
use crate::guest::events::job_info_bytes;
use crate::guest::kill::Kill;
use crate::guest::meter::fuel_used;
use crate::recording::record::Decided;
use crate::recording::recorder::Recorder;
use crate::scenario::play::SharedPlay;
use crate::sound::Sound;
use crate::sound::tape::Tape;
use wasm_worker_core::job::{Acceptance, JobInfo};
use wasm_worker_core::refusal::{Reason, Refusal};
use wasm_worker_core::room::people::Participant;
use wasm_worker_core::text::{clip, pairs_bytes, text_bytes};

/// Longest wait for a slot, and longest decision. The server wants an answer within 2 s.
const DECIDE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Longest identity and longest name of a participant, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// A job as it is offered.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The facts of the job.
    pub info: JobInfo,
    /// The participants of the room.
    pub participants: Vec<Participant>,
    /// What may happen in the room.
    pub room: OfferedRoom,
}

/// What may happen in the room of a job.
#[derive(Clone, Debug)]
pub enum OfferedRoom {
    /// The events of a script, and nothing else.
    Scripted(Arc<[Scripted]>),
    /// The same, and the sound of one person.
    Sounding(Arc<[Scripted]>, LocalSound),
    /// Anything.
    Open,
    /// The conversation of a scenario, under virtual time.
    Played(SharedPlay),
}

impl OfferedRoom {
    /// The seed of the job's random numbers, and the time since 1970 at which it begins.
    fn origin(&self) -> (Seed, Duration) {
        match self {
            Self::Scripted(_) | Self::Sounding(..) | Self::Open => (rand::random(), since_1970()),
            Self::Played(play) => {
                let script = play.script();
                (script.seed, script.began)
            }
        }
    }
}

/// The sound of a room without a server.
#[derive(Clone, Debug, Default)]
pub struct LocalSound {
    /// What a person says once the agent is in the room. The job is asked to stop when it is over, and both have been silent.
    pub speech: Option<Arc<Sound>>,
    /// Where what the agent plays is kept, if it is.
    pub tape: Option<Arc<Mutex<Tape>>>,
}

impl LocalSound {
    /// The person who speaks, where the description of the job has nobody.
    pub const PERSON: &'static str = "caller";
}

impl Offer {
    /// The same with sound. An offer of a room that is not scripted stays as it is.
    #[must_use]
    pub fn with_sound(mut self, sound: LocalSound) -> Self {
        if let OfferedRoom::Scripted(script) = &self.room {
            let person = self.info.participant.clone().or_else(|| self.participants.first().cloned());
            let person = person.unwrap_or_else(|| Participant::present(LocalSound::PERSON.into()));
            if !self.participants.iter().any(|who| who.identity == person.identity) {
                self.participants.push(person);
            }
            self.room = OfferedRoom::Sounding(script.clone(), sound);
        }
        self
    }
}

/// A job that the agent accepted.
pub(crate) struct Admitted {
    /// The offer.
    pub(crate) offer: Offer,
    /// How the agent wants to appear in the room.
    pub(crate) acceptance: Acceptance,
    /// The template of the instance.
    pub(crate) template: Arc<Template>,
    /// The instance that the job runs in.
    pub(crate) instance: Instance,
    /// Records the job.
    pub(crate) recorder: Option<Recorder>,
}

/// Ask the agent whether it accepts a job. The answer takes at most [`DECIDE_TIMEOUT`] for a slot and as much again for the
/// decision. An agent without a snapshot and without a warm instance has `init-timeout` for its prewarm in addition.
pub(crate) async fn admit(template: Arc<Template>, offer: Offer) -> Result<Admitted, Refusal> {
    let slot = {
        let _timers = template.engine.timers().enter();
        tokio::time::timeout(DECIDE_TIMEOUT, template.acquire())
    };
    let full = |_| Refusal::new(Reason::Full, format!("no slot was free within {DECIDE_TIMEOUT:?}"));
    let mut instance = slot.await.map_err(full)?.map_err(refused)?;
    instance.control().log().begin(&offer.info.id);
    let info: contract::JobInfo = offer.info.clone().into();
    let (seed, wall) = offer.room.origin();
    let decision = decide(&template, &mut instance, &info, (seed, wall)).await;
    instance.control().log().finish();
    instance.settle();
    let acceptance = match decision.map_err(refused)? {
        Decision::Accept(acceptance) => acceptance,
        Decision::Reject(Rejection { reason, terminate }) => {
            return Err(Refusal { terminate, ..Refusal::new(Reason::Rejected, clip(&reason)) });
        }
    };
    let recorder = template.recordings.as_ref().map(|recordings| {
        let fuel = fuel_used(&template.limits, instance.store.get_fuel().unwrap_or(0));
        let at = instance.store.data().clock.now().units();
        recordings.begin(Decided { seed, at, offer: info.clone(), acceptance: acceptance.clone(), fuel })
    });
    let acceptance = Acceptance::from(acceptance);
    if let Some(why) = unusable(&acceptance) {
        return Err(Refusal::new(Reason::DecideFailed, why));
    }
    let kept = offer_bytes(&info, &offer.participants) + kept_bytes(&acceptance);
    let assigned = instance.store.data_mut().assign(&offer.info.id, kept);
    assigned.map_err(|kill| refused(Crash::Killed { kill, backtrace: Vec::new() }))?;
    Ok(Admitted { offer, acceptance, template, instance, recorder })
}

/// The reason why the server would not take this acceptance. A worker also keeps the identity of each ended job.
fn unusable(acceptance: &Acceptance) -> Option<String> {
    let Acceptance { identity, name, .. } = acceptance;
    let names = [("an identity", identity.as_deref().unwrap_or_default()), ("a name", name)];
    if let Some((what, long)) = names.into_iter().find(|(_, name)| name.len() > NAME_BYTES_MAX) {
        return Some(format!("the agent wants {what} of {} bytes; at most {NAME_BYTES_MAX} are allowed", long.len()));
    }
    let (bytes, max) = (acceptance.bytes(), Acceptance::BYTES_MAX);
    (bytes > max).then(|| {
        format!(
            "the agent wants identity, name, metadata and attributes of {bytes} bytes together; at most {max} are allowed"
        )
    })
}

/// Host memory that the facts of a job and the participants of its room take for as long as the job runs.
fn offer_bytes(info: &contract::JobInfo, participants: &[Participant]) -> usize {
    let bytes_of = |who: &Participant| {
        let Participant { sid, identity, name, metadata, attributes, .. } = who;
        let texts = [sid, identity, name, metadata];
        size_of::<contract::Participant>()
            + texts.into_iter().map(|text| text_bytes(text)).sum::<usize>()
            + pairs_bytes(attributes)
    };
    job_info_bytes(info) + participants.iter().map(bytes_of).sum::<usize>()
}

/// Host memory that an acceptance takes for as long as the job runs.
fn kept_bytes(acceptance: &Acceptance) -> usize {
    let Acceptance { identity, name, metadata, attributes } = acceptance;
    let texts = [identity.as_deref().unwrap_or_default(), name, metadata];
    texts.into_iter().map(text_bytes).sum::<usize>() + pairs_bytes(attributes)
}

async fn decide(
    template: &Template,
    instance: &mut Instance,
    info: &contract::JobInfo,
    (seed, wall): (Seed, Duration),
) -> Result<Decision, Crash> {
    let control = instance.control();
    let prepare = template.warm.is_some() && instance.prewarmed.is_none();
    let limit = if prepare { DECIDE_TIMEOUT + template.limits.init_timeout } else { DECIDE_TIMEOUT };
    let call_decide = async {
        instance.instantiate(template).await?;
        instance.prewarm(template).await?;
        instance.refuel()?;
        let agent = instance
            .agent
            .as_ref()
            .ok_or_else(|| Crash::Host("`decide` was called before the instance exists".into()))?;
        instance.store.data_mut().begin_decide(seed, wall);
        call(&control, agent.call_decide(&mut instance.store, info)).await
    };
    within(&control, limit, Kill::DecideTimeout { limit }, &template.engine, call_decide).await
}

fn refused(crash: Crash) -> Refusal {
    Refusal::decide_failed(crash.verdict())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_person_who_speaks_is_in_the_room() {
        let identities = |participant: Option<&str>, participants: &[&str]| {
            let present = |identity: &&str| Participant::present((*identity).into());
            let info = JobInfo { participant: participant.as_ref().map(present), ..JobInfo::default() };
            let participants = participants.iter().map(present).collect();
            let offer = Offer { info, participants, room: OfferedRoom::Scripted(Arc::default()) };
            let offer = offer.with_sound(LocalSound::default());
            assert!(matches!(offer.room, OfferedRoom::Sounding(..)));
            offer.participants.into_iter().map(|who| who.identity).collect::<Vec<_>>()
        };
        assert_eq!(identities(None, &[]), ["caller"]);
        assert_eq!(identities(None, &["ann", "bob"]), ["ann", "bob"]);
        assert_eq!(identities(Some("ann"), &["bob"]), ["bob", "ann"]);
        assert_eq!(identities(Some("ann"), &["ann"]), ["ann"]);
    }

    #[test]
    fn an_acceptance_is_charged_with_all_its_texts() {
        let text = "x".repeat(1 << 10);
        let empty = kept_bytes(&Acceptance::default());
        let pair = (text.clone(), text.clone());
        let full = Acceptance {
            identity: Some(text.clone()),
            name: text.clone(),
            metadata: text.clone(),
            attributes: vec![pair.clone(), pair],
        };
        assert!(kept_bytes(&full) - empty >= 7 << 10);
    }
}

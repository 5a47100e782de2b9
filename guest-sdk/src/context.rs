//! What a running job can see and ask of its host.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::Result;
use crate::bindings::wasm_worker::agent::{job, room};
use crate::inbox::{Event, Inbox};
use crate::types::{AgentState, Budget, JobInfo, Participant, ParticipantKind, SendOptions, ShutdownRequest};
use crate::usage::UsageCollector;

type ShutdownCallback = Box<dyn FnOnce(String) -> Pin<Box<dyn Future<Output = ()>>>>;

/// One job: its facts, its events, its budget and its end. Cheap to clone.
#[derive(Clone)]
pub struct JobContext(Rc<Shared>);

struct Shared {
    info: JobInfo,
    inbox: Inbox,
    log_fields: RefCell<BTreeMap<String, String>>,
    shutdown_callbacks: RefCell<Vec<ShutdownCallback>>,
}

impl JobContext {
    pub(crate) fn open() -> Self {
        Self(Rc::new(Shared {
            info: job::get_info(),
            inbox: Inbox::open(),
            log_fields: RefCell::default(),
            shutdown_callbacks: RefCell::default(),
        }))
    }

    /// What the dispatcher said about this job.
    pub fn job(&self) -> &JobInfo {
        &self.0.info
    }

    /// Ask for this job's end: the session, or whoever waits for [`shutdown_requested`](Self::shutdown_requested), is
    /// told, and the host's shutdown grace starts to count.
    pub fn shutdown(&self, reason: &str) {
        job::shutdown(reason);
        self.0.inbox.stop();
    }

    /// Run something once the entrypoint has returned. It is given the reason of the end. Callbacks run in the order in
    /// which they were added, all within the host's shutdown grace; none runs after a trap or a kill.
    ///
    /// ```no_run
    /// # fn example(ctx: &wasm_worker_sdk::JobContext) {
    /// ctx.add_shutdown_callback(async |reason| log::info!("the job ended: {reason}"));
    /// # }
    /// ```
    pub fn add_shutdown_callback<F, Fut>(&self, callback: F)
    where
        F: FnOnce(String) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let boxed: ShutdownCallback = Box::new(move |reason| Box::pin(callback(reason)));
        self.0.shutdown_callbacks.borrow_mut().push(boxed);
    }

    pub(crate) async fn run_shutdown_callbacks(&self, reason: String) {
        // A callback may add another.
        loop {
            let callbacks = self.0.shutdown_callbacks.take();
            if callbacks.is_empty() {
                return;
            }
            for callback in callbacks {
                callback(reason.clone()).await;
            }
        }
    }

    /// The fields that every log line of this job carries.
    pub fn log_context_fields(&self) -> BTreeMap<String, String> {
        self.0.log_fields.borrow().clone()
    }

    /// Set fields that every later log line of this job carries, beside those set before; an empty value removes one.
    pub fn set_log_context_fields<'a>(&self, fields: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let fields: Vec<(String, String)> = fields.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        if let Err(error) = job::set_log_fields(&fields) {
            return log::warn!("log fields not set: {error}");
        }
        let mut kept = self.0.log_fields.borrow_mut();
        kept.extend(fields);
        kept.retain(|_, value| !value.is_empty());
    }

    /// The job's own bill so far: fuel, memory and time, each with its limit where there is one.
    pub fn budget(&self) -> Budget {
        job::get_budget()
    }

    /// Count what models used; the sums are part of the job's record.
    pub fn usage(&self) -> UsageCollector {
        UsageCollector
    }

    /// The next thing that happens to this job. Each event is given out once, so only one part of an agent can read them;
    /// while an [`AgentSession`](crate::AgentSession) runs, that is the session. A request to stop is also seen by
    /// [`shutdown_requested`](Self::shutdown_requested), by everyone who waits there.
    pub async fn next_event(&self) -> Event {
        self.0.inbox.wait_for_event(|| self.0.inbox.next()).await
    }

    /// Wait until this job is asked to stop.
    pub async fn shutdown_requested(&self) -> ShutdownRequest {
        self.0.inbox.shutdown_requested().await
    }

    /// Everyone else who is in the room now.
    pub fn participants(&self) -> Vec<Participant> {
        room::participants()
    }

    /// Wait for a participant: the one with this identity, or anyone who is a person, by whatever way they came.
    pub async fn wait_for_participant(&self, identity: Option<&str>) -> Participant {
        let wanted = |who: &Participant| identity.map_or_else(|| is_person(who), |identity| who.identity == identity);
        self.0.inbox.wait_until(room::subscribe_participants, || room::participants().into_iter().find(&wanted)).await
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.0.inbox
    }

    /// Send one whole text on a topic to everyone in the room.
    pub fn send_text(&self, topic: &str, text: &str) -> Result {
        self.send_text_with(topic, text, &SendOptions { destinations: Vec::new(), attributes: Vec::new() })
    }

    /// Send one whole text on a topic, to some participants or with attributes.
    pub fn send_text_with(&self, topic: &str, text: &str, options: &SendOptions) -> Result {
        Ok(room::send_text(topic, text, options)?)
    }

    /// Set attributes of the agent's own participant; an empty value removes one.
    pub fn set_attributes<'a>(&self, attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result {
        let attributes: Vec<(String, String)> = attributes.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        Ok(room::set_attributes(&attributes)?)
    }

    /// Show users what the agent is doing. [`AgentSession`](crate::AgentSession) does this by itself.
    pub fn set_agent_state(&self, state: AgentState) -> Result {
        Ok(room::set_agent_state(state)?)
    }
}

/// Not a recorder, a stream that is played into the room, or another agent.
pub(crate) fn is_person(who: &Participant) -> bool {
    match who.kind {
        ParticipantKind::Standard | ParticipantKind::Sip | ParticipantKind::Connector => true,
        ParticipantKind::Ingress | ParticipantKind::Egress | ParticipantKind::Agent | ParticipantKind::Other => false,
    }
}

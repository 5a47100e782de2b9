//! The view that a running job has of itself, of its room and of its host.

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

/// A running job: its description, events, room, budget and end. Clones are cheap and share their state.
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

    /// The job's description, as the dispatcher sent it.
    pub fn job(&self) -> &JobInfo {
        &self.0.info
    }

    /// Requests the end of this job. The session and all waiters of [`shutdown_requested`](Self::shutdown_requested)
    /// are notified, and the host's shutdown grace begins.
    pub fn shutdown(&self, reason: &str) {
        job::shutdown(reason);
        self.0.inbox.stop();
    }

    /// Adds a callback that runs after the entrypoint has returned. Its argument is the reason for the job's end.
    ///
    /// Callbacks run in the order in which they were added, all within the host's shutdown grace. None runs after a
    /// trap or a kill.
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

    /// The fields that are added to every log line of this job.
    pub fn log_context_fields(&self) -> BTreeMap<String, String> {
        self.0.log_fields.borrow().clone()
    }

    /// Adds or replaces fields of every later log line of this job. An empty value removes the field.
    pub fn set_log_context_fields<'a>(&self, fields: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let fields: Vec<(String, String)> = fields.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        if let Err(error) = job::set_log_fields(&fields) {
            return log::warn!("log fields not set: {error}");
        }
        let mut kept = self.0.log_fields.borrow_mut();
        kept.extend(fields);
        kept.retain(|_, value| !value.is_empty());
    }

    /// The fuel, memory and time that this job has used, each with its limit if one is set.
    pub fn budget(&self) -> Budget {
        job::get_budget()
    }

    /// The counters of the models' usage. Their sums become part of the job's record.
    pub fn usage(&self) -> UsageCollector {
        UsageCollector
    }

    /// Waits for the next event of this job.
    ///
    /// Each event is delivered once, so an agent needs a single reader. While an [`AgentSession`](crate::AgentSession)
    /// runs, the session is that reader. A request to stop also reaches all waiters of
    /// [`shutdown_requested`](Self::shutdown_requested).
    pub async fn next_event(&self) -> Event {
        self.0.inbox.wait_for_event(|| self.0.inbox.next()).await
    }

    /// Waits until the host requests the end of this job.
    pub async fn shutdown_requested(&self) -> ShutdownRequest {
        self.0.inbox.shutdown_requested().await
    }

    /// The other participants who are in the room now.
    pub fn participants(&self) -> Vec<Participant> {
        room::participants()
    }

    /// Waits for the participant with this identity. Without an identity, waits for the first person, including
    /// callers.
    pub async fn wait_for_participant(&self, identity: Option<&str>) -> Participant {
        let wanted = |who: &Participant| identity.map_or_else(|| is_person(who), |identity| who.identity == identity);
        self.0.inbox.wait_until(room::subscribe_participants, || room::participants().into_iter().find(&wanted)).await
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.0.inbox
    }

    /// Sends a complete text on a topic to all participants.
    pub fn send_text(&self, topic: &str, text: &str) -> Result {
        self.send_text_with(topic, text, &SendOptions { destinations: Vec::new(), attributes: Vec::new() })
    }

    /// Sends a complete text on a topic, to selected participants or with attributes.
    pub fn send_text_with(&self, topic: &str, text: &str, options: &SendOptions) -> Result {
        Ok(room::send_text(topic, text, options)?)
    }

    /// Sets attributes of the agent's own participant. An empty value removes the attribute.
    pub fn set_attributes<'a>(&self, attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result {
        let attributes: Vec<(String, String)> = attributes.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        Ok(room::set_attributes(&attributes)?)
    }

    /// Sets the agent's state, which clients show to users. [`AgentSession`](crate::AgentSession) sets it
    /// automatically.
    pub fn set_agent_state(&self, state: AgentState) -> Result {
        Ok(room::set_agent_state(state)?)
    }
}

/// Whether the participant is a person, not a recorder, an ingested stream or another agent.
pub(crate) fn is_person(who: &Participant) -> bool {
    match who.kind {
        ParticipantKind::Standard | ParticipantKind::Sip | ParticipantKind::Connector => true,
        ParticipantKind::Ingress | ParticipantKind::Egress | ParticipantKind::Agent | ParticipantKind::Other => false,
    }
}

//! The view that a running job has of itself, of its room and of its host.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::bindings::wasm_worker::agent::job;
use crate::types::{Budget, JobInfo, ShutdownRequest};
use crate::usage::UsageCollector;
use crate::{Event, inbox};

/// The prefix of attributes of a job that are settings of its agent.
const SETTING: &str = "@setting.";

type ShutdownCallback = Box<dyn FnOnce(String) -> Pin<Box<dyn Future<Output = ()>>>>;

/// A running job: its description, events, room, budget and end. Clones are cheap and share their state.
#[derive(Clone)]
pub struct JobContext(Rc<Shared>);

struct Shared {
    info: JobInfo,
    log_fields: RefCell<BTreeMap<String, String>>,
    shutdown_callbacks: RefCell<Vec<ShutdownCallback>>,
}

impl JobContext {
    pub(crate) fn new(info: JobInfo) -> Self {
        Self(Rc::new(Shared { info, log_fields: RefCell::default(), shutdown_callbacks: RefCell::default() }))
    }

    /// The job's description, as the dispatcher sent it.
    pub fn job(&self) -> &JobInfo {
        &self.0.info
    }

    /// The value of a setting that the agent's `agent.toml` names: its default, or what the operator gave.
    ///
    /// ```no_run
    /// # fn example(ctx: &wasm_worker_sdk::JobContext) {
    /// let model = ctx.setting("model").unwrap_or("gpt-5-mini");
    /// # }
    /// ```
    pub fn setting(&self, name: &str) -> Option<&str> {
        let attributes = &self.0.info.attributes;
        let found = attributes.iter().find(|(key, _)| key.strip_prefix(SETTING) == Some(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Requests the end of this job. The session and all waiters of [`shutdown_requested`](Self::shutdown_requested)
    /// are notified, and the host's shutdown grace begins.
    pub fn shutdown(&self, reason: &str) {
        job::shutdown(reason);
        inbox::stop(reason);
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
        job::set_log_fields(&fields);
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
    ///
    /// At most 1,024 events and 4 MiB wait for the reader. Later ones are dropped, which [`Event::Lost`] tells, with the
    /// name of the first and their number.
    pub async fn next_event(&self) -> Event {
        inbox::next_event().await
    }

    /// Waits until the host requests the end of this job.
    pub async fn shutdown_requested(&self) -> ShutdownRequest {
        inbox::shutdown_requested("shutdown_requested").await
    }
}

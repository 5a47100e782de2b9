//! An offer to an agent, and the handles of its job: [`Accepted`], [`Running`], [`JobHandle`].
//!
//! The job itself runs in one task on the runtime of the guests, whether or not anybody holds a handle.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use wasm_worker_core::event::Event;
use wasm_worker_core::job::{Acceptance, RoomStatus, TaskReport, WaitsFor};
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::{JobRecord, LogLine};
use wasm_worker_core::refusal::Refusal;
use wasm_worker_core::room::connection::RoomToJoin;
use wasm_worker_core::usage::{RoomUse, micros};

use super::course;
use super::granted::Granted;
use super::instance::Template;
use super::offer::{Offer, admit};
use super::run::Crash;
use crate::guest::control::{Control, StopBy};

/// A job that the agent accepted. Dropping it releases the job's slot.
pub struct Accepted {
    /// How the agent wants to appear in the room.
    pub acceptance: Acceptance,
    launch: oneshot::Sender<Launch>,
    running: Running,
}

/// The launch of a job.
struct Launch {
    at: Instant,
    room: Option<RoomToJoin>,
}

impl Accepted {
    /// Run the job, whether or not anybody waits for its end. Without a room to join, what the agent sends is only recorded.
    pub fn launch(self, room: Option<RoomToJoin>) -> Running {
        // Without the runtime of the guests the end of the job reports the loss.
        self.launch.send(Launch { at: Instant::now(), room }).ok();
        self.running
    }
}

/// A job that runs.
pub struct Running {
    control: Arc<Control>,
    closed: oneshot::Receiver<JobRecord>,
}

impl Running {
    /// A handle that stops the job while another task waits for its end.
    pub fn handle(&self) -> JobHandle {
        JobHandle(self.control.clone())
    }

    /// Wait for the end of the job. `None` when the runtime of the guests is gone.
    pub async fn closed(self) -> Option<JobRecord> {
        self.closed.await.ok()
    }
}

/// A handle of one job.
#[derive(Clone)]
pub struct JobHandle(Arc<Control>);

impl JobHandle {
    /// Ask the job to stop within its shutdown grace. The first request counts.
    pub fn stop(&self, by: StopBy, reason: &str) {
        self.0.ask_to_stop(by, reason);
    }

    /// What the job waits for, as of its last wait.
    pub fn waits_for(&self) -> WaitsFor {
        self.0.waits_for()
    }

    /// Ask the agent for its tasks: at most once a second, and one question waits at most. Returns whether it was asked.
    pub fn ask_for_tasks(&self) -> bool {
        self.0.ask_for_tasks()
    }

    /// Whether the agent has reported its tasks since it was asked last.
    pub fn has_answered(&self) -> bool {
        self.0.has_answered()
    }

    /// The tasks that the agent reported last; none before its first report.
    pub fn task_report(&self) -> Option<TaskReport> {
        self.0.task_report()
    }

    /// The room as the agent was last told, with at most so many participants; none for a job that has not asked for it.
    pub fn room(&self, present_max: usize) -> Option<RoomStatus> {
        self.0.room(present_max)
    }

    /// Whether the job opened a room on a server, now or before.
    pub fn opened_a_room(&self) -> bool {
        self.0.opened_a_room()
    }

    /// The use of the connection to the room since the last call. What is left at the end is in [`Event::RoomLeft`].
    pub fn take_room_use(&self) -> RoomUse {
        self.0.take_room_use()
    }

    /// The use so far: CPU time, and time spent in finished waits, in microseconds.
    pub fn used(&self) -> (u64, u64) {
        (micros(self.0.clock.cpu()), micros(self.0.clock.waited()))
    }

    /// CPU time that the sound of the open room took so far, beside the job's own.
    pub fn sound_cpu(&self) -> Duration {
        self.0.sound_cpu()
    }

    /// Tokens of models, as the agent has reported them so far.
    pub fn tokens(&self) -> u64 {
        self.0.tokens.load(Ordering::Relaxed)
    }

    /// The kept log lines of the job whose number is `after` or higher, the oldest first, and the number of older lines that
    /// are no longer kept. Once the job has ended its lines are in its record, and no longer here.
    pub fn log_lines(&self, after: u64) -> (Vec<LogLine>, u64) {
        self.0.log().kept.read(after)
    }

    /// End the job by force.
    pub fn kill(&self) {
        self.0.kill_by_operator();
    }
}

/// Offer a job, and run it as soon as the agent accepts it.
pub(crate) async fn run(
    agent: (&Arc<Template>, &Granted),
    offer: Offer,
    events: &Arc<Events>,
) -> Result<Running, Refusal> {
    let (_, running) = ask(agent, offer, events, None).await?;
    Ok(running)
}

/// Offer a job. An accepted job holds its slot until it is launched or dropped.
pub(crate) async fn decide(
    agent: (&Arc<Template>, &Granted),
    offer: Offer,
    events: &Arc<Events>,
) -> Result<Accepted, Refusal> {
    let (launch, launched) = oneshot::channel();
    let (acceptance, running) = ask(agent, offer, events, Some(launched)).await?;
    Ok(Accepted { acceptance, launch, running })
}

/// Start the task of a job: ask the agent, wait for the launch if there is one, and supervise. Without a launch to wait for the
/// job runs at once, so that it is not queued a second time.
async fn ask(
    (template, granted): (&Arc<Template>, &Granted),
    mut offer: Offer,
    events: &Arc<Events>,
    launch: Option<oneshot::Receiver<Launch>>,
) -> Result<(Acceptance, Running), Refusal> {
    let (agent, job) = (offer.info.agent_name.clone(), offer.info.id.clone());
    offer.info.attributes.extend(granted.attributes());
    let network = granted.network.clone();
    let (admitted, answer) = oneshot::channel();
    let (closed, end) = oneshot::channel();
    let (for_admission, for_course) = (template.clone(), events.clone());
    template.engine.guests().spawn(async move {
        // Boxed: the memory of the decision would be that of each waiting job.
        let job = match Box::pin(admit(for_admission, offer)).await {
            Err(refusal) => return drop(admitted.send(Err(refusal))),
            Ok(job) => job,
        };
        // The receiver is gone when the offer was given up, and counted as refused. Such a job must not run.
        if admitted.send(Ok((job.acceptance.clone(), job.instance.control()))).is_err() {
            return;
        }
        let launched = match launch {
            None => Some(Launch { at: Instant::now(), room: None }),
            Some(launch) => launch.await.ok(),
        };
        if let Some(Launch { at, room }) = launched {
            drop(closed.send(course::run(job, at, room, network, for_course).await));
        }
    });
    let lost = || Refusal::decide_failed(Crash::Host("the task of the offer ended".into()).verdict());
    match answer.await.unwrap_or_else(|_| Err(lost())) {
        Ok((acceptance, control)) => Ok((acceptance, Running { control, closed: end })),
        Err(refusal) => {
            events.publish(&Event::offer_refused(agent, job, &refusal));
            Err(refusal)
        }
    }
}

//! The single task that owns the scheduler. It stores every change before it tells anyone about it.
//!
//! Bounds: [`COMMANDS_MAX`] commands of callers wait, and as many of workers; their senders wait while the queue is full. While
//! the queue of the store is full, workers wait, and callers are still answered: what only reads has its answer, a change is
//! refused once the store cannot write.
//! [`OUTBOUND_MAX`](crate::limits::OUTBOUND_MAX) messages wait for a worker; a worker whose queue is full is disconnected. The ids
//! of the last [`RECENT_ENDS_MAX`] ended dispatches are kept, so that a repeated request finds its dispatch.

mod commands;
mod dispatches;
mod hosted;
mod look_ups;
mod notifications;
mod rooms;
mod workers;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use livekit_protocol as proto;
use proto::server_message::Message as ServerMessage;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::clock::Moment;
use crate::command::{Command, CommandError, DispatchTarget, WorkerCommand};
use crate::keys::Keys;
use crate::limits::COMMANDS_MAX;
use crate::rates::Rates;
use crate::room_host::{HostedRoom, RoomHost};
use crate::rooms::Rooms;
use crate::scheduler::{Id, Output, Scheduler, ToWorker};
use crate::store::{Recovered, Store, StoreOp, Written};
use look_ups::LookUps;
use wasm_worker_core::event::{DispatcherEvent, Event};
use wasm_worker_core::observer::Events;
use wasm_worker_protocol::dispatcher_session::WorkerRegistration;

/// Most ended dispatches whose ids are kept.
const RECENT_ENDS_MAX: usize = 10_000;
/// Most actions that wait for the store before pings are no longer answered.
const DEFERRED_MAX: usize = 100_000;
/// Longest time from an assignment to its message. Workers release the job after 7.5 s without it.
const ASSIGN_WITHIN: Duration = Duration::from_secs(5);

/// An action that waits until everything before it is durable.
enum Deferred {
    /// Send a message to a worker.
    Send {
        worker: Id,
        message: ToWorker,
        /// When the scheduler decided to send it.
        since: Instant,
    },
    /// Answer a command, with the reason instead if the store got stuck.
    Reply(Box<dyn FnOnce(Option<Arc<str>>) + Send>),
    /// Answer a ping.
    Pong { outbound: mpsc::Sender<ServerMessage>, timestamp: i64 },
    /// Publish an event.
    Event(Box<DispatcherEvent>),
    /// Wake the requests that wait for a change of this dispatch.
    Changed(Id),
}

/// A command from either queue.
enum AnyCommand {
    Caller(Command),
    Worker(WorkerCommand),
}

/// The connection of a registered worker.
struct WorkerConnection {
    /// The queue of messages to the worker. Its connection ends when this sender is dropped.
    outbound: mpsc::Sender<ServerMessage>,
    registration: WorkerRegistration,
    api_key: String,
}

/// The coordinator of a dispatcher.
pub(crate) struct Coordinator {
    scheduler: Scheduler,
    rooms: Rooms,
    room_host: Arc<RoomHost>,
    /// The rooms that are served, by name: those that have, or had, participants.
    hosted: HashMap<String, HostedRoom>,
    store: Store,
    keys: Arc<Keys>,
    rates: Arc<Rates>,
    events: Arc<Events>,
    commands: mpsc::Receiver<Command>,
    /// The commands of workers. They wait while the queue of the store is full.
    worker_commands: mpsc::Receiver<WorkerCommand>,
    look_ups: LookUps,
    connections: HashMap<Id, WorkerConnection>,
    /// Each action with the number of the batch that must be durable first.
    deferred: VecDeque<(u64, Deferred)>,
    /// The number of batches that were given to the store.
    batches_given: u64,
    /// The progress of the store.
    written: Written,
    /// Whether the writer of the store has ended, which is a bug.
    store_failed: bool,
    changes: broadcast::Sender<Id>,
    /// The targets of dispatches that ended a moment ago.
    recent_ends: HashMap<Id, DispatchTarget>,
    /// Their ids, the oldest first.
    recent_ends_in_order: VecDeque<Id>,
    /// How long a dispatch without a deadline waits for a worker.
    queue_deadline: Duration,
}

/// The parts of a coordinator.
pub(crate) struct CoordinatorParts {
    pub(crate) scheduler: Scheduler,
    pub(crate) store: Store,
    pub(crate) recovered: Recovered,
    pub(crate) keys: Arc<Keys>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) events: Arc<Events>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) worker_commands: mpsc::Receiver<WorkerCommand>,
    /// For commands that follow from a look-up in the store. Weak, so that the queue closes with the other senders.
    pub(crate) sender: mpsc::WeakSender<WorkerCommand>,
    pub(crate) changes: broadcast::Sender<Id>,
    pub(crate) queue_deadline: Duration,
    pub(crate) room_host: Arc<RoomHost>,
}

impl Coordinator {
    pub(crate) fn new(parts: CoordinatorParts) -> Self {
        let CoordinatorParts {
            mut scheduler,
            store,
            recovered,
            keys,
            rates,
            events,
            commands,
            worker_commands,
            sender,
            changes,
            queue_deadline,
            room_host,
        } = parts;
        let now = Moment::now();
        let mut rooms = Rooms::default();
        recovered.rooms.into_iter().for_each(|room| rooms.insert(now.at, room));
        recovered.dispatches.iter().for_each(|recovered| rooms.dispatch_opened(&recovered.dispatch.room));
        scheduler.recover(now, recovered.dispatches);
        Self {
            scheduler,
            rooms,
            room_host,
            hosted: HashMap::new(),
            look_ups: LookUps::new(store.reader(), sender),
            store,
            keys,
            rates,
            events,
            commands,
            worker_commands,
            connections: HashMap::new(),
            deferred: VecDeque::new(),
            batches_given: 0,
            written: Written::default(),
            store_failed: false,
            changes,
            recent_ends: HashMap::new(),
            recent_ends_in_order: VecDeque::new(),
            queue_deadline,
        }
    }

    /// Serve until [`Command::Stop`], then close the store.
    pub(crate) async fn serve(mut self) {
        let mut written = self.store.written();
        self.flush(Vec::new());
        while !self.store_failed {
            let wake = self.scheduler.wake_at().into_iter().chain(self.rooms.wake_at()).min();
            let wake = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Durable changes are released before new commands are accepted, and a flood of commands delays no deadline.
                biased;
                Ok(()) = written.changed() => {
                    let now_written = written.borrow_and_update().clone();
                    self.on_written(now_written);
                }
                () = wake => self.on_timer(),
                command = self.next_command() => match command {
                    None | Some(AnyCommand::Caller(Command::Stop)) => break,
                    Some(AnyCommand::Caller(command)) => self.handle_command(command),
                    Some(AnyCommand::Worker(command)) => self.handle_worker_command(command),
                },
            }
        }
        // What workers said before the end is recorded.
        for _ in 0..COMMANDS_MAX {
            if self.store_failed || self.store.is_congested() {
                break;
            }
            let Ok(command) = self.worker_commands.try_recv() else { break };
            self.handle_worker_command(command);
        }
        self.close_all_hosted().await;
        self.store.close().await;
    }

    /// The next command, of callers and workers in turn.
    async fn next_command(&mut self) -> Option<AnyCommand> {
        let congested = self.store.is_congested();
        tokio::select! {
            command = self.commands.recv() => command.map(AnyCommand::Caller),
            Some(command) = self.worker_commands.recv(), if !congested => Some(AnyCommand::Worker(command)),
        }
    }

    /// Release the actions that waited for the store.
    fn on_written(&mut self, written: Written) {
        let (was_stuck, is_stuck) = (self.written.stuck.is_some(), written.stuck.is_some());
        if was_stuck != is_stuck {
            self.scheduler.suspend(Moment::now(), is_stuck);
            self.publish(match &written.stuck {
                Some(why) => DispatcherEvent::StoreStuck { why: why.to_string() },
                None => DispatcherEvent::StoreRecovered,
            });
        }
        self.written = written;
        while self.deferred.front().is_some_and(|(batch, _)| *batch <= self.written.batches) {
            if let Some((_, deferred)) = self.deferred.pop_front() {
                self.release(deferred);
            }
        }
        if let Some(why) = self.written.stuck.clone().filter(|_| !was_stuck) {
            self.refuse_replies(&why);
        }
        self.flush(Vec::new());
    }

    /// Give the callers that wait for the store the reason why it does not write, instead of a timeout. What they asked for may
    /// still become durable, as after a timeout.
    fn refuse_replies(&mut self, why: &Arc<str>) {
        for (batch, deferred) in std::mem::take(&mut self.deferred) {
            match deferred {
                Deferred::Reply(answer) => answer(Some(why.clone())),
                other => self.deferred.push_back((batch, other)),
            }
        }
    }

    /// Answer a command once everything before the answer is durable. A refusal waits for nothing.
    fn reply_durably<T: Send + 'static>(
        &mut self,
        reply: oneshot::Sender<Result<T, CommandError>>,
        answer: Result<T, CommandError>,
    ) {
        // The caller may have given up.
        match answer {
            Ok(_) => self.defer(Deferred::Reply(Box::new(move |stuck| {
                drop(reply.send(stuck.map_or(answer, |why| Err(CommandError::StoreStuck(why)))));
            }))),
            Err(_) => drop(reply.send(answer)),
        }
    }

    /// Do this once everything before it is durable.
    fn defer(&mut self, deferred: Deferred) {
        if self.batches_given <= self.written.batches {
            self.release(deferred);
        } else {
            self.deferred.push_back((self.batches_given, deferred));
        }
    }

    fn release(&mut self, deferred: Deferred) {
        match deferred {
            Deferred::Send { message: ToWorker::Assign { job, .. }, since, .. } if since.elapsed() > ASSIGN_WITHIN => {
                self.scheduler.assignment_undelivered(Moment::now(), &job.id);
            }
            Deferred::Send { worker, message, .. } => self.send(&worker, message),
            Deferred::Reply(answer) => answer(None),
            Deferred::Pong { outbound, timestamp } => {
                let pong =
                    proto::WorkerPong { last_timestamp: timestamp, timestamp: Timestamp::now().as_millisecond() };
                // A worker whose queue is full receives no pong.
                drop(outbound.try_send(ServerMessage::Pong(pong)));
            }
            Deferred::Event(event) => self.publish(*event),
            // An error means that no request waits.
            Deferred::Changed(dispatch) => drop(self.changes.send(dispatch)),
        }
    }

    fn on_timer(&mut self) {
        let now = Moment::now();
        self.scheduler.on_timer(now);
        let mut ops = Vec::new();
        self.expire_rooms(now, &mut ops);
        self.flush(ops);
    }

    /// Give these operations and the changes of the scheduler to the store, then act on the scheduler's other outputs.
    fn flush(&mut self, ops: Vec<StoreOp>) {
        let (mut batch, mut rest) = (ops, Vec::new());
        for output in self.scheduler.take_outputs() {
            match output {
                Output::Store(change) => batch.push(StoreOp::Change(change)),
                other => rest.push(other),
            }
        }
        let given = if batch.is_empty() { self.store.send_waiting() } else { self.store.write(batch) };
        match given {
            Some(batches) => self.batches_given = batches,
            None => self.store_failed = true,
        }
        for output in rest {
            match output {
                Output::Send { worker, message, durable: true } => {
                    self.defer(Deferred::Send { worker, message, since: Instant::now() });
                }
                Output::Send { worker, message, durable: false } => self.send(&worker, message),
                Output::Notify(notification) => self.notify(notification),
                Output::UnknownJobs { worker, jobs } => self.look_up_jobs(worker, jobs),
                // The batch has it.
                Output::Store(_) => {}
            }
        }
    }

    fn publish(&self, event: DispatcherEvent) {
        self.events.publish(&Event::Dispatcher(event));
    }
}

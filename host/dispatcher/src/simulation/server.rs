//! The dispatcher's process: the scheduler, a session for each connection, and around them the order of the coordinator. A change
//! is stored before anybody is told about it.

use std::collections::BTreeMap;
use std::time::Duration;

use livekit_protocol as proto;
use proto::server_message::Message as ServerMessage;
use rand::RngExt;
use tokio::time::Instant;

use super::context::{Context, Event};
use super::journal::{Deferred, Journal};
use super::network::{ConnectionId, Payload, Towards};
use crate::scheduler::{Bounds, Change, Dispatch, Id, Output, RegisteredWorker, Scheduler, ToWorker};
use crate::store::StoreOp;
use wasm_worker_core::verdict::Code;
use wasm_worker_protocol::dispatcher_session::{Due, Encoded, Encoding, Received, Session, WorkerRegistration};
use wasm_worker_protocol::worker_session::EMBEDDED_NODE_ID;

/// How long a job waits for its lost worker to return.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// Longest time from an assignment to its message, as in the coordinator.
const ASSIGN_WITHIN: Duration = Duration::from_secs(5);

/// The connection of a worker.
struct Connection {
    session: Session,
    worker: Option<Id>,
}

/// The last connection on which a process registered.
struct LastConnection {
    id: ConnectionId,
    /// Since when the process is away, or has said nothing after its registration; `None` once it has.
    silent_since: Option<Instant>,
}

/// A dispatcher that runs.
pub(super) struct Server {
    generation: u32,
    scheduler: Scheduler,
    connections: BTreeMap<ConnectionId, Connection>,
    connection_of: BTreeMap<Id, ConnectionId>,
    journal: Journal,
    started: Instant,
    /// The last connection of each process.
    last: BTreeMap<String, LastConnection>,
}

impl Server {
    pub(super) fn start(cx: &mut Context, generation: u32) -> Self {
        let now = cx.clock.now();
        let bounds =
            Bounds { queue: true, queue_limit: 1_000, memory_bytes: 64 << 20, attempts_max: 3, lost_after: LOST_AFTER };
        let mut server = Self {
            generation,
            scheduler: Scheduler::new(bounds, cx.rng.random()),
            connections: BTreeMap::new(),
            connection_of: BTreeMap::new(),
            journal: Journal::new(generation),
            started: now.at,
            last: BTreeMap::new(),
        };
        let recovered = cx.store.recover(now.wall_ns);
        cx.log(|| format!("dispatcher {generation} starts with {} open dispatches", recovered.len()));
        server.scheduler.recover(now, recovered);
        server.flush(cx);
        server
    }

    pub(super) fn is(&self, generation: u32) -> bool {
        self.generation == generation
    }

    /// Whether nothing is open, and all is stored.
    pub(super) fn is_idle(&self) -> bool {
        self.scheduler.counts() == (0, 0) && self.journal.is_empty()
    }

    /// No worker is thought to have a job or an offer.
    pub(super) fn check_counts(&self, cx: &Context) {
        for worker in self.scheduler.workers(cx.clock.now()) {
            assert_eq!((worker.jobs, worker.offers), (0, 0), "the dispatcher counts jobs that {} lacks", worker.worker);
        }
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        let sessions = self.connections.values().map(|connection| connection.session.wake_at());
        self.scheduler.wake_at().into_iter().chain(sessions).min()
    }

    /// Handle everything that is due.
    pub(super) fn on_time(&mut self, cx: &mut Context) {
        let now = cx.clock.now();
        if self.scheduler.wake_at().is_some_and(|at| at <= now.at) {
            self.scheduler.on_timer(now);
            self.flush(cx);
        }
        let due = |(id, connection): (&ConnectionId, &mut Connection)| Some((*id, connection.session.due(now.at)?));
        let due: Vec<(ConnectionId, Due)> = self.connections.iter_mut().filter_map(due).collect();
        for (id, due) in due {
            match due {
                Due::Ping => cx.send(id, Towards::Worker, Payload::Ping),
                Due::Close(why) => self.close(cx, id, why),
            }
        }
    }

    pub(super) fn accept(&mut self, cx: &Context, connection: ConnectionId) {
        let session = Session::new(cx.clock.now().at);
        self.connections.insert(connection, Connection { session, worker: None });
    }

    pub(super) fn receive(&mut self, cx: &mut Context, id: ConnectionId, payload: Payload) {
        let now = cx.clock.now().at;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.session.note_alive(now);
        match payload {
            Payload::Frame(bytes) => match connection.session.receive(now, Encoding::Binary, &bytes) {
                Ok(received) => self.forward(cx, id, received),
                Err(why) => panic!("a frame of a worker is refused: {why}"),
            },
            Payload::Ping => cx.send(id, Towards::Worker, Payload::Pong),
            Payload::Pong => {}
            Payload::Closed => self.close(cx, id, "the connection ended".into()),
        }
    }

    fn forward(&mut self, cx: &mut Context, id: ConnectionId, received: Received) {
        let now = cx.clock.now();
        let worker = self.connections.get(&id).and_then(|connection| connection.worker.clone());
        match (received, worker) {
            (Received::Register(registration), _) => self.register(cx, id, *registration),
            (Received::Ping { timestamp }, _) => self.defer(cx, Deferred::Pong { connection: id, timestamp }),
            (Received::Message(message), Some(worker)) => {
                self.set_silent(id, None);
                self.scheduler.on_message(now, &worker, message);
                self.flush(cx);
            }
            (Received::Message(_) | Received::Simulate(_) | Received::Nothing, _) => {}
        }
    }

    fn register(&mut self, cx: &mut Context, id: ConnectionId, registration: WorkerRegistration) {
        let now = cx.clock.now();
        let registered = RegisteredWorker {
            dispatch_key: registration.dispatch_key,
            api_key: "key".into(),
            instance: registration.instance.clone(),
            version: registration.version,
        };
        let worker = self.scheduler.register(now, registered);
        let info = proto::ServerInfo { node_id: EMBEDDED_NODE_ID.into(), ..Default::default() };
        let response = proto::RegisterWorkerResponse {
            worker_id: worker.to_string(),
            server_info: Some(info),
            ..Default::default()
        };
        self.send(cx, id, ServerMessage::Register(response));
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.worker = Some(worker.clone());
        }
        self.connection_of.insert(worker.clone(), id);
        self.last.insert(registration.instance, LastConnection { id, silent_since: Some(now.at) });
        self.scheduler.registration_confirmed(now, &worker);
        self.flush(cx);
    }

    fn close(&mut self, cx: &mut Context, id: ConnectionId, why: String) {
        let Some(Connection { worker, .. }) = self.connections.remove(&id) else { return };
        cx.log(|| format!("the dispatcher closes connection {id}: {why}"));
        cx.send(id, Towards::Worker, Payload::Closed);
        let Some(worker) = worker else { return };
        self.connection_of.remove(&worker);
        self.set_silent(id, Some(cx.clock.now().at));
        self.scheduler.worker_left(cx.clock.now(), &worker, why);
        self.flush(cx);
    }

    /// The process at the other end of a connection is silent since then, or has said something.
    fn set_silent(&mut self, id: ConnectionId, since: Option<Instant>) {
        if let Some(last) = self.last.values_mut().find(|last| last.id == id) {
            last.silent_since = since.map(|now| last.silent_since.unwrap_or(now));
        }
    }

    /// A client asks for a dispatch, perhaps again.
    pub(super) fn create(&mut self, cx: &mut Context, dispatch: Dispatch) {
        let id = dispatch.id.to_string();
        if self.scheduler.dispatch(&id).is_none() && !cx.store.has_dispatch(&id) && !self.journal.has_created(&id) {
            if self.journal.is_stuck() {
                return;
            }
            let now = cx.clock.now();
            self.scheduler.create(now, dispatch).unwrap();
            self.flush(cx);
        }
        self.defer(cx, Deferred::Confirm { dispatch: id });
    }

    pub(super) fn cancel(&mut self, cx: &mut Context, dispatch: &str) {
        self.scheduler.cancel(cx.clock.now(), dispatch, "the client cancels it");
        self.flush(cx);
    }

    pub(super) fn process_died(&mut self, cx: &mut Context, instance: &str) {
        self.scheduler.process_died(cx.clock.now(), instance);
        self.flush(cx);
    }

    pub(super) fn stop_jobs(&mut self, cx: &mut Context, worker: &Id, jobs: Vec<String>) {
        for job in jobs.into_iter().filter(|job| cx.store.has_job(job)).collect::<Vec<_>>() {
            self.tell(cx, worker, ToWorker::Terminate { job: job.into() });
        }
    }

    /// The disk is full, or has space again.
    pub(super) fn set_stuck(&mut self, cx: &mut Context, is_stuck: bool) {
        self.scheduler.suspend(cx.clock.now(), is_stuck);
        self.flush(cx);
        self.journal.set_stuck(cx, is_stuck);
    }

    /// Write the batches that wait, and release what waited for them.
    pub(super) fn write(&mut self, cx: &mut Context) {
        for deferred in self.journal.write(cx) {
            self.release(cx, deferred);
        }
        self.flush(cx);
    }

    /// The process ends at once.
    pub(super) fn crash(self, cx: &mut Context) {
        self.journal.crash(cx);
        for id in self.connections.into_keys() {
            cx.cut(id, [(Towards::Worker, 0.8), (Towards::Server, 0.0)]);
        }
    }

    fn defer(&mut self, cx: &mut Context, deferred: Deferred) {
        if let Some(deferred) = self.journal.defer(deferred) {
            self.release(cx, deferred);
        }
    }

    fn release(&mut self, cx: &mut Context, deferred: Deferred) {
        let now = cx.clock.now();
        match deferred {
            Deferred::Send { message: ToWorker::Assign { job, .. }, since, .. } if now.at - since > ASSIGN_WITHIN => {
                self.scheduler.assignment_undelivered(now, &job.id);
            }
            Deferred::Send { worker, message, .. } => self.tell(cx, &worker, message),
            Deferred::Confirm { dispatch } => {
                assert!(cx.store.has_dispatch(&dispatch), "{dispatch} is confirmed, and is not stored");
                cx.checks.confirmed(&dispatch);
            }
            Deferred::Pong { connection, timestamp } => {
                let pong = proto::WorkerPong { last_timestamp: timestamp, timestamp: 0 };
                self.send(cx, connection, ServerMessage::Pong(pong));
            }
        }
    }

    fn flush(&mut self, cx: &mut Context) {
        let (mut batch, mut rest) = (Vec::new(), Vec::new());
        for output in self.scheduler.take_outputs() {
            match output {
                Output::Store(change) => {
                    self.check_lost(cx, &change);
                    batch.push(StoreOp::Change(change));
                }
                other => rest.push(other),
            }
        }
        self.journal.give(cx, batch);
        for output in rest {
            match output {
                Output::Send { worker, message, durable: true } => {
                    self.defer(cx, Deferred::Send { worker, message, since: cx.clock.now().at });
                }
                Output::Send { worker, message, durable: false } => self.tell(cx, &worker, message),
                Output::UnknownJobs { worker, jobs } => {
                    let time = cx.up_to(20);
                    cx.after(time, Event::StopJobs { server: self.generation, worker, jobs });
                }
                Output::Notify(_) | Output::Store(_) => {}
            }
        }
    }

    fn check_lost(&self, cx: &mut Context, change: &Change) {
        let Change::JobEnded { job, end, .. } = change else { return };
        if end.verdict.code == Code::Lost {
            cx.log(|| format!("{job} is declared lost: {}", end.verdict.detail));
            let (last, now, started) = (&self.last, cx.clock.now().at, self.started);
            let away = |process: &str| match last.get(process) {
                Some(last) => last.silent_since.map(|since| now - since),
                None => Some(now - started),
            };
            cx.checks.lost(job, away, LOST_AFTER);
        }
    }

    fn tell(&self, cx: &mut Context, worker: &Id, message: ToWorker) {
        let Some(id) = self.connection_of.get(worker) else { return };
        let message = match message {
            ToWorker::Offer { job, resuming } => {
                ServerMessage::Availability(proto::AvailabilityRequest { job: Some(*job), resuming })
            }
            ToWorker::Assign { job, .. } => {
                ServerMessage::Assignment(proto::JobAssignment { job: Some(*job), url: None, token: "token".into() })
            }
            ToWorker::Terminate { job } => {
                ServerMessage::Termination(proto::JobTermination { job_id: job.to_string() })
            }
        };
        // A frame may be sent twice where a second one has no other meaning.
        let twice = matches!(message, ServerMessage::Assignment(_) | ServerMessage::Termination(_)) && cx.chance(0.05);
        for message in std::iter::once(message.clone()).chain(twice.then_some(message)) {
            self.send(cx, *id, message);
        }
    }

    fn send(&self, cx: &mut Context, id: ConnectionId, message: ServerMessage) {
        let Some(connection) = self.connections.get(&id) else { return };
        match connection.session.encode(message) {
            Encoded::Binary(bytes) => cx.send(id, Towards::Worker, Payload::Frame(bytes)),
            Encoded::Json(_) => panic!("the worker has sent no JSON"),
        }
    }
}

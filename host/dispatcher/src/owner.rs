//! The one task that owns the pool: it hears workers and callers, writes down what came of it, and tells each what it is to
//! know, not before it is written.
//!
//! Bounds: [`QUEUE`] orders wait, and whoever has more waits; [`MAILBOX`] messages wait for a worker, and one that takes none is
//! cut off; [`ENDED_MAX`] ids of what has just ended are kept, so that a request that comes again finds it.

mod notes;
mod rooms;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use livekit_protocol as proto;
use proto::server_message::Message as ToWorker;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::api::NAME_BYTES_MAX;
use super::keys::Keys;
use super::order::{Created, Order, Refusal, Wanted};
use super::pool::{Dispatch, Full, Id, Kind, Now, Output, Pool, Registered, Tell};
use super::rooms::{Room, Rooms};
use super::store::{Entry, Left, Reader, Store, Written};
use wasm_worker_core::event::{DispatcherEvent, Event};
use wasm_worker_core::observer::Events;
use wasm_worker_protocol::dispatcher_session::Introduction;

/// Orders that wait.
pub(crate) const QUEUE: usize = 4_096;
/// Messages that wait for one worker.
pub(crate) const MAILBOX: usize = 20_480;
const ENDED_MAX: usize = 10_000;
/// What waits for the disk before pings are not answered any more.
const DEFERRED_MAX: usize = 100_000;
/// Workers wait 7.5 s for an assignment, and let go of the job then.
const ASSIGN_WITHIN: Duration = Duration::from_secs(5);
/// Changes that a waiting caller may be behind before it looks for itself.
pub(crate) const CHANGES: usize = 4_096;

/// What waits until everything before it is written.
enum Deferred {
    Tell {
        worker: Id,
        what: Tell,
        since: Instant,
    },
    /// Answer whoever called.
    Reply(Box<dyn FnOnce() + Send>),
    Pong {
        mailbox: mpsc::Sender<ToWorker>,
        timestamp: i64,
    },
    Event(Box<DispatcherEvent>),
    /// Somebody may wait for news of it.
    Changed(Id),
}

struct Peer {
    mailbox: mpsc::Sender<ToWorker>,
    introduction: Introduction,
    key: String,
}

/// The owner of everything.
pub(crate) struct Owner {
    pool: Pool,
    rooms: Rooms,
    store: Store,
    keys: Arc<Keys>,
    events: Arc<Events>,
    orders: mpsc::Receiver<Order>,
    /// For what is found out elsewhere.
    sender: mpsc::WeakSender<Order>,
    reader: Reader,
    peers: HashMap<Id, Peer>,
    /// With the number of the batch that has to be safe first.
    deferred: VecDeque<(u64, Deferred)>,
    handed: u64,
    /// What the store has come to.
    disk: Written,
    /// The store is no more; a bug of ours.
    broken: bool,
    changes: broadcast::Sender<Id>,
    ended: HashSet<Id>,
    ended_in_order: VecDeque<Id>,
    /// How long a dispatch waits that nobody has given a deadline.
    queue_deadline_ns: i64,
}

/// What an owner needs.
pub(crate) struct Parts {
    pub(crate) pool: Pool,
    pub(crate) store: Store,
    pub(crate) left: Left,
    pub(crate) keys: Arc<Keys>,
    pub(crate) events: Arc<Events>,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) sender: mpsc::WeakSender<Order>,
    pub(crate) changes: broadcast::Sender<Id>,
    pub(crate) queue_deadline_ns: i64,
}

/// This moment.
pub(crate) fn now() -> Now {
    let wall_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    Now { at: Instant::now(), wall_ns }
}

impl Owner {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { mut pool, store, left, keys, events, orders, sender, changes, queue_deadline_ns } = parts;
        let moment = now();
        let mut rooms = Rooms::default();
        left.rooms.into_iter().for_each(|room| rooms.insert(moment.at, room));
        left.open.iter().for_each(|open| rooms.opened(&open.dispatch.room));
        pool.recover(moment, left.open);
        Self {
            pool,
            rooms,
            reader: store.reader(),
            store,
            keys,
            events,
            orders,
            sender,
            peers: HashMap::new(),
            deferred: VecDeque::new(),
            handed: 0,
            disk: Written::default(),
            broken: false,
            changes,
            ended: HashSet::new(),
            ended_in_order: VecDeque::new(),
            queue_deadline_ns,
        }
    }

    /// Serve until told to stop.
    pub(crate) async fn serve(mut self) {
        let mut written = self.store.written();
        self.perform(Vec::new()).await;
        while !self.broken {
            let wake = self.pool.wake_at().into_iter().chain(self.rooms.wake_at()).min();
            let wake = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What is written is told before more is asked; a deadline waits for nobody.
                biased;
                Ok(()) = written.changed() => {
                    let now_written = written.borrow_and_update().clone();
                    self.written(now_written).await;
                }
                () = wake => self.time_up().await,
                order = self.orders.recv() => match order {
                    Some(Order::Stop) | None => break,
                    Some(order) => self.obey(order).await,
                },
            }
        }
        self.store.close().await;
    }

    async fn written(&mut self, written: Written) {
        let (was, is) = (self.disk.stuck.is_some(), written.stuck.is_some());
        if was != is {
            self.pool.hold(now(), is);
            self.publish(match &written.stuck {
                Some(why) => DispatcherEvent::StoreStuck { why: why.to_string() },
                None => DispatcherEvent::StoreRecovered,
            });
        }
        self.disk = written;
        while self.deferred.front().is_some_and(|(batch, _)| *batch <= self.disk.batches) {
            if let Some((_, deferred)) = self.deferred.pop_front() {
                self.fulfil(deferred);
            }
        }
        self.perform(Vec::new()).await;
    }

    /// Answer, once everything is written. Whoever called may be gone.
    fn reply<T: Send + 'static>(&mut self, reply: oneshot::Sender<T>, answer: T) {
        self.once_written(Deferred::Reply(Box::new(move || drop(reply.send(answer)))));
    }

    /// Now, if everything is written; else when it is.
    fn once_written(&mut self, deferred: Deferred) {
        if self.handed <= self.disk.batches {
            self.fulfil(deferred);
        } else {
            self.deferred.push_back((self.handed, deferred));
        }
    }

    /// Whoever waited for it may be gone.
    fn fulfil(&mut self, deferred: Deferred) {
        match deferred {
            Deferred::Tell { what: Tell::Assign { job, .. }, since, .. } if since.elapsed() > ASSIGN_WITHIN => {
                self.pool.never_told(now(), &job.id);
            }
            Deferred::Tell { worker, what, .. } => self.tell(&worker, what),
            Deferred::Reply(answer) => answer(),
            Deferred::Pong { mailbox, timestamp } => {
                let pong =
                    proto::WorkerPong { last_timestamp: timestamp, timestamp: Timestamp::now().as_millisecond() };
                drop(mailbox.try_send(ToWorker::Pong(pong)));
            }
            Deferred::Event(event) => self.publish(*event),
            Deferred::Changed(dispatch) => drop(self.changes.send(dispatch)),
        }
    }

    async fn time_up(&mut self) {
        let moment = now();
        self.pool.time_up(moment);
        let mut entries = Vec::new();
        while let Some(room) = self.rooms.expired(moment.at) {
            entries.push(Entry::RoomGone { name: room.name, at_ns: moment.wall_ns });
        }
        self.perform(entries).await;
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Create { wanted, reply } => self.create(*wanted, reply).await,
            Order::Delete { dispatch, reply } => {
                let moment = now();
                self.pool.cancel(moment, &dispatch, "it was deleted");
                self.perform(vec![Entry::Deleted { dispatch: dispatch.into(), at_ns: moment.wall_ns }]).await;
                self.reply(reply, ());
            }
            Order::Cancel { dispatch, reply } => {
                let found = self.pool.cancel(now(), &dispatch, "it was cancelled");
                self.perform(Vec::new()).await;
                self.reply(reply, found);
            }
            Order::Waiting { dispatches, reply } => drop(reply.send(self.pool.waiting(now(), &dispatches))),
            Order::Workers { reply } => drop(reply.send(self.pool.workers(now()))),
            Order::Counts { reply } => drop(reply.send(self.pool.counts())),
            Order::Rooms { names, reply } => drop(reply.send(self.list_rooms(&names))),
            Order::CreateRoom { room, agents, key, reply } => {
                let made = self.create_room(*room, agents, key).await;
                self.reply(reply, made);
            }
            Order::SetMetadata { room, metadata, reply } => {
                let changed = self.set_metadata(&room, metadata).await;
                self.reply(reply, changed);
            }
            Order::DeleteRoom { name, reply } => {
                let found = self.delete_room(name).await;
                self.reply(reply, found);
            }
            Order::Register { introduction, key, mailbox, reply } => {
                self.register(*introduction, key, mailbox, reply).await;
            }
            Order::Said { worker, said } => {
                self.pool.said(now(), &worker, said);
                self.perform(Vec::new()).await;
            }
            // Whoever asks that often hears of it less often.
            Order::Ping { .. } if self.deferred.len() >= DEFERRED_MAX => {}
            Order::Ping { timestamp, mailbox } => self.once_written(Deferred::Pong { mailbox, timestamp }),
            Order::Simulate { worker, job } => self.simulate(&worker, *job).await,
            Order::Gone { worker, why } => {
                self.peers.remove(&worker);
                self.pool.gone(now(), &worker, why);
                self.perform(Vec::new()).await;
            }
            Order::Died { instance } => {
                self.pool.instance_died(now(), &instance);
                self.perform(Vec::new()).await;
            }
            Order::Strays { worker, jobs } => self.stop_strays(&worker, jobs),
            // Whoever serves has seen to it.
            Order::Stop => {}
        }
    }

    async fn create(&mut self, wanted: Wanted, reply: oneshot::Sender<Result<Created, Refusal>>) {
        match self.make(wanted) {
            Ok((created, entries)) => {
                self.perform(entries).await;
                self.reply(reply, Ok(created));
            }
            Err(refusal) => {
                self.perform(Vec::new()).await;
                drop(reply.send(Err(refusal)));
            }
        }
    }

    /// Make a dispatch, and its room where there is none. Returned with it is what the store is to have before it.
    fn make(&mut self, wanted: Wanted) -> Result<(Created, Vec<Entry>), Refusal> {
        let moment = now();
        if let Some(id) = &wanted.id
            && (self.pool.is_open(id) || self.ended.contains(id.as_str()))
        {
            return Ok((Created { dispatch: id.clone(), created_ns: moment.wall_ns }, Vec::new()));
        }
        self.has_room_for_more()?;
        let mut entries = Vec::new();
        let new_room = self.rooms.get(&wanted.room).is_none();
        if new_room {
            let room = self.plain_room(&wanted.room, moment);
            self.add_room(moment, room, &mut entries)?;
        }
        let room = self.rooms.get(&wanted.room).map(Room::to_proto).unwrap_or_default();
        let id: Id = wanted.id.map_or_else(|| self.pool.id("AD_"), Id::from);
        let key: Id = wanted.key.as_str().into();
        let dispatch = Dispatch {
            id: id.clone(),
            key: key.clone(),
            kind: Kind { agent: wanted.agent, job_type: proto::JobType::JtRoom as i32, deployment: wanted.deployment },
            room,
            metadata: wanted.metadata,
            attributes: wanted.attributes,
            restart: wanted.restart,
            priority: wanted.priority,
            created_ns: moment.wall_ns,
            deadline_ns: wanted.deadline_ns,
        };
        if let Err(full) = self.begin(moment, dispatch) {
            if new_room {
                self.rooms.remove(&wanted.room);
            }
            return Err(Refusal::Full(full));
        }
        if new_room {
            self.greet(moment, &wanted.room, &key);
        }
        Ok((Created { dispatch: id.to_string(), created_ns: moment.wall_ns }, entries))
    }

    /// Hand a dispatch to the pool; its room stays as long as it is open.
    fn begin(&mut self, moment: Now, dispatch: Dispatch) -> Result<(), Full> {
        let room = dispatch.room.clone();
        self.rooms.opened(&room);
        let created = self.pool.create(moment, dispatch);
        created.map(drop).inspect_err(|_| self.rooms.closed(moment.at, &room))
    }

    fn has_room_for_more(&self) -> Result<(), Refusal> {
        match &self.disk.stuck {
            Some(why) => Err(Refusal::Stuck(why.clone())),
            None if self.disk.full => Err(Refusal::StoreFull),
            None => Ok(()),
        }
    }

    async fn register(
        &mut self,
        introduction: Introduction,
        key: String,
        mailbox: mpsc::Sender<ToWorker>,
        reply: oneshot::Sender<Id>,
    ) {
        let moment = now();
        let registered = Registered {
            kind: introduction.kind.clone(),
            key: key.as_str().into(),
            instance: introduction.instance.clone(),
            version: introduction.version.clone(),
        };
        let worker = self.pool.register(moment, registered);
        let welcome = proto::RegisterWorkerResponse {
            worker_id: worker.to_string(),
            server_info: Some(super::server_info()),
            ..Default::default()
        };
        // The first message, before any offer.
        drop(mailbox.try_send(ToWorker::Register(welcome)));
        self.peers.insert(worker.clone(), Peer { mailbox, introduction, key });
        drop(reply.send(worker.clone()));
        self.pool.welcomed(moment, &worker);
        self.perform(Vec::new()).await;
    }

    /// A job for this kind of worker, in the room that it names.
    async fn simulate(&mut self, worker: &Id, job: proto::SimulateJobRequest) {
        let Some(peer) = self.peers.get(worker) else { return };
        let kind = peer.introduction.kind.clone();
        let room = job.room.map(|room| room.name).filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX);
        let wanted = Wanted {
            id: None,
            key: peer.key.clone(),
            agent: kind.agent,
            deployment: kind.deployment,
            room: room.unwrap_or_else(|| "simulated".into()),
            metadata: String::new(),
            attributes: BTreeMap::new(),
            restart: proto::JobRestartPolicy::JrpNever,
            priority: 0,
            deadline_ns: now().wall_ns.saturating_add(self.queue_deadline_ns),
        };
        match self.make(wanted) {
            Ok((_, entries)) => self.perform(entries).await,
            Err(refusal) => tracing::warn!(target: "dispatcher", %worker, ?refusal, "no job is simulated"),
        }
    }

    /// Write what is to be written, then do the rest of what the pool wants.
    async fn perform(&mut self, entries: Vec<Entry>) {
        let (mut batch, mut rest) = (entries, Vec::new());
        for output in self.pool.outputs() {
            match output {
                Output::Write(write) => batch.push(Entry::Pool(write)),
                other => rest.push(other),
            }
        }
        if !batch.is_empty() {
            match self.store.write(batch).await {
                Some(handed) => self.handed = handed,
                None => self.broken = true,
            }
        }
        for output in rest {
            match output {
                Output::Tell { worker, what, durable: true } => {
                    self.once_written(Deferred::Tell { worker, what, since: Instant::now() });
                }
                Output::Tell { worker, what, durable: false } => self.tell(&worker, what),
                Output::Note(note) => self.note(note),
                Output::Strays { worker, jobs } => self.ask_the_store(worker, jobs),
                // In the batch.
                Output::Write(_) => {}
            }
        }
    }

    fn tell(&mut self, worker: &Id, what: Tell) {
        let Some(peer) = self.peers.get(worker) else { return };
        let message = match what {
            Tell::Offer { job, resuming } => {
                ToWorker::Availability(proto::AvailabilityRequest { job: Some(*job), resuming })
            }
            Tell::Assign { job, answer } => match self.keys.job_token(&peer.key, &peer.introduction, &job, &answer) {
                Ok(token) => ToWorker::Assignment(proto::JobAssignment { job: Some(*job), url: None, token }),
                Err(error) => {
                    tracing::error!(target: "dispatcher", job = job.id, error, "no token for the job");
                    return;
                }
            },
            Tell::Terminate { job } => ToWorker::Termination(proto::JobTermination { job_id: job.to_string() }),
        };
        // One that takes nothing is cut off: its connection sees that its mailbox is gone.
        if peer.mailbox.try_send(message).is_err() {
            self.peers.remove(worker);
        }
    }

    fn publish(&self, event: DispatcherEvent) {
        self.events.publish(&Event::Dispatcher(event));
    }

    /// A worker that is back has jobs which are not open: they may have been given up.
    fn ask_the_store(&self, worker: Id, jobs: Vec<String>) {
        let (reader, sender) = (self.reader.clone(), self.sender.clone());
        tokio::runtime::Handle::current().spawn(async move {
            let jobs = reader.known(jobs).await.unwrap_or_default();
            if let Some(sender) = sender.upgrade() {
                drop(sender.send(Order::Strays { worker, jobs }).await);
            }
        });
    }

    /// What nobody here has ever heard of is left alone.
    fn stop_strays(&mut self, worker: &Id, jobs: Vec<String>) {
        for job in jobs {
            tracing::warn!(target: "dispatcher", %worker, job, "a job that was given up still runs; it is stopped");
            self.tell(worker, Tell::Terminate { job: job.into() });
        }
    }
}

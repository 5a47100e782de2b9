//! One run: processes, clients and faults, in the order of the virtual clock.

use std::collections::BTreeMap;
use std::time::Duration;

use livekit_protocol as proto;
use rand::RngExt;
use tokio::time::Instant;

use super::checks::Counts;
use super::context::{Context, Event, Fault};
use super::network::{Arrival, ConnectionId, Payload, Towards};
use super::process::{Process, agent_of};
use super::server::Server;
use crate::scheduler::Dispatch;
use crate::store::memory::MemoryStore;
use wasm_worker_protocol::dispatcher_session::DispatchKey;

const PROCESSES: usize = 3;
/// The time in which clients ask and faults happen.
const FAULTS_FOR: Duration = Duration::from_secs(40);
/// The time in which everything ends after the last fault: a silence that is noticed, a lost attempt, and waits for a worker.
const ENDS_WITHIN: Duration = Duration::from_secs(300);
/// How long a dispatch waits for a worker.
const QUEUE_DEADLINE: Duration = Duration::from_secs(60);
/// The time after which a client without a reply asks again.
const ASKS_AGAIN: Duration = Duration::from_secs(3);

pub(super) struct World<'a> {
    cx: Context<'a>,
    processes: Vec<Option<Process>>,
    /// The number of times that each process started.
    generations: Vec<u32>,
    /// Until when each process reaches nobody.
    isolated: Vec<Instant>,
    server: Option<Server>,
    /// The number of times that the dispatcher started.
    servers: u32,
    dispatches: usize,
}

/// Run a seed to its end. A promise that is broken is a panic.
pub(super) fn run(seed: u64, store: &mut MemoryStore, trace: bool) -> Counts {
    let mut world = World::new(Context::new(seed, store, trace));
    world.plan();
    while !world.is_over() {
        world.step();
        world.cx.checks.counts.events += 1;
    }
    world.cx.checks.at_the_end(world.cx.store);
    if let Some(server) = &world.server {
        server.check_counts(&world.cx);
    }
    world.cx.checks.counts
}

impl<'a> World<'a> {
    fn new(cx: Context<'a>) -> Self {
        let start = cx.clock.now().at;
        Self {
            cx,
            processes: (0..PROCESSES).map(|_| None).collect(),
            generations: vec![0; PROCESSES],
            isolated: vec![start; PROCESSES],
            server: None,
            servers: 0,
            dispatches: 0,
        }
    }

    /// Plan the starts, the clients and the faults of the run.
    fn plan(&mut self) {
        self.cx.after(Duration::ZERO, Event::StartServer);
        (0..PROCESSES).for_each(|process| self.cx.after(Duration::ZERO, Event::StartWorker(process)));
        let millis = u64::try_from(FAULTS_FOR.as_millis()).unwrap();
        self.dispatches = self.cx.rng.random_range(4..=12);
        for dispatch in 0..self.dispatches {
            let at = self.cx.up_to(millis);
            self.cx.after(at, Event::Create(dispatch));
            if self.cx.chance(0.2) {
                let later = self.cx.up_to(20_000);
                self.cx.after(at + later, Event::Cancel(dispatch));
            }
        }
        for _ in 0..self.cx.rng.random_range(0..=8) {
            let process = self.cx.rng.random_range(0..PROCESSES);
            let fault = match self.cx.rng.random_range(0..8) {
                0..=2 => Fault::Cut(process),
                3 => Fault::Isolate(process, self.cx.up_to(30_000)),
                4 => Fault::CrashWorker(process),
                5 => Fault::DrainWorker(process),
                6 => Fault::CrashServer,
                _ => Fault::FullDisk(self.cx.up_to(12_000)),
            };
            let at = self.cx.up_to(millis);
            self.cx.after(at, Event::Fault(fault));
        }
    }

    fn calm_at(&self) -> Instant {
        self.cx.clock.at(FAULTS_FOR)
    }

    /// Whether the faults are over and everything has ended.
    fn is_over(&self) -> bool {
        let (now, calm_at) = (self.cx.clock.now().at, self.calm_at());
        assert!(now < calm_at + ENDS_WITHIN, "not everything ended within {ENDS_WITHIN:?}: {}", self.what_is_open());
        let confirmed = || (0..self.dispatches).all(|number| self.cx.checks.is_confirmed(&name_of(number)));
        now >= calm_at
            && self.server.as_ref().is_some_and(Server::is_idle)
            && self.processes.iter().all(|process| process.as_ref().is_some_and(Process::is_idle))
            && confirmed()
    }

    fn what_is_open(&self) -> String {
        let ended = |number: &usize| self.cx.store.end_of(&name_of(*number)).is_some();
        let open: Vec<String> = (0..self.dispatches).filter(|number| !ended(number)).map(name_of).collect();
        let idle = |process: &Option<Process>| process.as_ref().is_some_and(Process::is_idle);
        let busy: Vec<usize> = (0..PROCESSES).filter(|number| !idle(&self.processes[*number])).collect();
        format!("dispatches {open:?}, processes {busy:?}")
    }

    /// Move to the next moment at which something happens, and let it happen.
    fn step(&mut self) {
        let processes = self.processes.iter().flatten().filter_map(Process::wake_at);
        let server = self.server.as_ref().and_then(Server::wake_at);
        let next = self.cx.clock.next_at().into_iter().chain(processes).chain(server).min().unwrap();
        self.cx.clock.advance(next);
        match self.cx.clock.take_due() {
            Some(event) => self.handle(event),
            None => self.on_time(),
        }
        self.end_drained();
        self.cx.checks.no_offer_is_overdue(self.cx.clock.now().at);
    }

    fn on_time(&mut self) {
        let now = self.cx.clock.now().at;
        if let Some(server) = &mut self.server {
            server.on_time(&mut self.cx);
        }
        for number in 0..PROCESSES {
            let Some(process) = &mut self.processes[number] else { continue };
            process.on_time(&mut self.cx);
            if !process.wants_to_connect(now) {
                continue;
            }
            match &mut self.server {
                Some(server) if self.isolated[number] <= now => {
                    let connection = self.cx.network.connect(number);
                    server.accept(&self.cx, connection);
                    process.connected(&mut self.cx, connection);
                }
                _ => process.not_connected(&mut self.cx),
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let Self { cx, processes, server, .. } = self;
        match event {
            Event::Arrival(arrival) => self.arrive(arrival),
            Event::Decided { process: number, generation, job } => {
                if let Some(process) = find(processes, number, generation) {
                    process.decided(cx, job);
                }
            }
            Event::JobEnds { process: number, generation, job, code } => {
                if let Some(process) = find(processes, number, generation) {
                    process.job_ends(cx, job, code);
                }
            }
            Event::Write { server: generation } => {
                if let Some(server) = server.as_mut().filter(|server| server.is(generation)) {
                    server.write(cx);
                }
            }
            Event::StopJobs { server: generation, worker, jobs } => {
                if let Some(server) = server.as_mut().filter(|server| server.is(generation)) {
                    server.stop_jobs(cx, &worker, jobs);
                }
            }
            Event::Create(number) => self.create(number),
            Event::Cancel(number) => {
                if let Some(server) = server {
                    server.cancel(cx, &name_of(number));
                }
            }
            Event::Fault(fault) => self.fault(fault),
            Event::StartWorker(number) => {
                self.generations[number] += 1;
                self.processes[number] = Some(Process::start(&self.cx, number, self.generations[number]));
            }
            Event::StartServer => {
                self.servers += 1;
                self.server = Some(Server::start(&mut self.cx, self.servers));
            }
            Event::StoreRecovers => {
                if let Some(server) = server {
                    server.set_stuck(cx, false);
                }
            }
            Event::ProcessDied(instance) => {
                if let Some(server) = server {
                    server.process_died(cx, &instance);
                }
            }
        }
    }

    fn arrive(&mut self, Arrival { connection, towards, payload }: Arrival) {
        // An end learns of a cut, whatever is on the way.
        if self.cx.network.is_cut(connection) && !matches!(payload, Payload::Closed) {
            return;
        }
        match towards {
            Towards::Server => {
                if let Some(server) = &mut self.server {
                    server.receive(&mut self.cx, connection, payload);
                }
            }
            Towards::Worker => {
                let process = self.cx.network.process(connection);
                if let Some(process) = &mut self.processes[process] {
                    process.receive(&mut self.cx, connection, payload);
                }
            }
        }
    }

    /// A client asks for a dispatch, until the dispatcher has confirmed it.
    fn create(&mut self, number: usize) {
        let now = self.cx.clock.now();
        if self.cx.checks.is_confirmed(&name_of(number)) {
            return;
        }
        if let Some(server) = &mut self.server {
            let never = self.cx.rng.random_bool(0.2);
            let restart = if never { proto::JobRestartPolicy::JrpNever } else { proto::JobRestartPolicy::JrpOnFailure };
            let dispatch = Dispatch {
                id: name_of(number).into(),
                api_key: "key".into(),
                dispatch_key: DispatchKey { agent: agent_of(number), job_type: 0, deployment: String::new() },
                room: proto::Room { name: "room".into(), ..Default::default() },
                metadata: String::new(),
                attributes: BTreeMap::new(),
                restart,
                priority: self.cx.rng.random_range(0..3),
                created_ns: now.wall_ns,
                deadline_ns: now.wall_ns_after(QUEUE_DEADLINE),
            };
            server.create(&mut self.cx, dispatch);
        }
        self.cx.after(ASKS_AGAIN, Event::Create(number));
    }

    fn fault(&mut self, fault: Fault) {
        self.cx.log(|| format!("fault: {fault:?}"));
        match fault {
            Fault::Cut(process) => self.cut(process),
            Fault::Isolate(process, time) => {
                self.isolated[process] = (self.cx.clock.now().at + time).min(self.calm_at());
                self.cut(process);
            }
            Fault::CrashWorker(number) => {
                let Some(process) = self.processes[number].take() else { return };
                self.cx.checks.crashed(&process.instance());
                if let Some(connection) = process.connection() {
                    self.cx.checks.disconnected(connection);
                    self.cx.cut(connection, [(Towards::Server, 0.8), (Towards::Worker, 0.0)]);
                }
                if self.cx.chance(0.5) {
                    let soon = self.cx.up_to(500);
                    self.cx.after(soon, Event::ProcessDied(process.instance()));
                }
                self.restart_later(20_000, Event::StartWorker(number));
            }
            Fault::DrainWorker(number) => {
                if let Some(process) = &mut self.processes[number] {
                    process.drain(&mut self.cx);
                }
            }
            Fault::CrashServer => {
                if let Some(server) = self.server.take() {
                    server.crash(&mut self.cx);
                    self.restart_later(15_000, Event::StartServer);
                }
            }
            Fault::FullDisk(time) => {
                if let Some(server) = &mut self.server {
                    server.set_stuck(&mut self.cx, true);
                    let ends = (self.cx.clock.now().at + time).min(self.calm_at());
                    self.cx.clock.plan(ends, Event::StoreRecovers);
                }
            }
        }
    }

    /// Plan a restart, which is before the end of the faults.
    fn restart_later(&mut self, millis: u64, event: Event) {
        let at = self.cx.clock.now().at + self.cx.up_to(millis);
        self.cx.clock.plan(at.min(self.calm_at()), event);
    }

    fn cut(&mut self, process: usize) {
        let connection: Option<ConnectionId> = self.processes[process].as_ref().and_then(Process::connection);
        if let Some(connection) = connection {
            self.cx.cut(connection, [(Towards::Worker, 0.5), (Towards::Server, 0.5)]);
        }
    }

    /// End the processes whose drain is over, and start new ones.
    fn end_drained(&mut self) {
        for number in 0..PROCESSES {
            let over = self.processes[number].take_if(|process| process.is_over());
            if let Some(process) = over {
                self.cx.log(|| format!("{} has drained", process.instance()));
                if let Some(connection) = process.connection() {
                    self.cx.checks.disconnected(connection);
                    self.cx.send(connection, Towards::Server, Payload::Closed);
                }
                self.restart_later(5_000, Event::StartWorker(number));
            }
        }
    }
}

/// A process, unless another one with its number has started since.
fn find(processes: &mut [Option<Process>], number: usize, generation: u32) -> Option<&mut Process> {
    processes[number].as_mut().filter(|process| process.is(generation))
}

fn name_of(dispatch: usize) -> String {
    format!("dispatch{dispatch}")
}

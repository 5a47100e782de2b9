//! A job with a fake in the place of the network: what it is asked, and what the agent is told.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use wasm_worker_core::job::{Acceptance, JobInfo};
use wasm_worker_core::network::command::{Command, HttpRequest};
use wasm_worker_core::network::connection::{NetworkConnection, NetworkNumbers};
use wasm_worker_core::network::event::{Failure, Head, NetworkEvent};

use super::super::offer::OfferedRoom;
use super::super::recorded_room::RecordedRoom;
use super::super::world::JobWithoutGuest;
use super::*;
use crate::guest::bindings::wasm_worker::agent::http::Request;
use crate::guest::events::{id_of, name_of};

/// What the fake was asked, and what it will tell.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<Command>>,
    events: Mutex<VecDeque<NetworkEvent>>,
}

struct Opener(Arc<Fake>);
struct Connection(Arc<Fake>);

impl NetworkOpener for Opener {
    fn open(&self) -> Box<dyn NetworkConnection> {
        Box::new(Connection(self.0.clone()))
    }
}

impl NetworkConnection for Connection {
    fn perform(&mut self, command: Command) {
        self.0.asked.lock().unwrap().push(command);
    }

    fn try_next(&mut self) -> Option<NetworkEvent> {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn numbers(&self) -> Arc<dyn NetworkNumbers> {
        self.0.clone()
    }
}

impl NetworkNumbers for Fake {
    fn traffic(&self) -> NetworkUse {
        let mut used = NetworkUse::default();
        used.all.requests = 1;
        used
    }

    fn bytes_waiting(&self) -> usize {
        7_000
    }

    fn open_operations(&self) -> usize {
        0
    }
}

struct Test {
    world: Networked<RecordedRoom>,
    fake: Arc<Fake>,
    job: JobWithoutGuest,
}

impl Test {
    fn new(is_granted: bool, memory_bytes: usize) -> Self {
        let fake = Arc::new(Fake::default());
        let opener: Option<Arc<dyn NetworkOpener>> = is_granted.then(|| Arc::new(Opener(fake.clone())) as _);
        let (info, acceptance) = (JobInfo::default(), Acceptance::default());
        let room = RecordedRoom::new(&info, &acceptance, Vec::new(), &OfferedRoom::Open);
        Self { world: Networked::new(room, opener), fake, job: JobWithoutGuest::new(memory_bytes) }
    }

    fn perform(&mut self, call: Call) {
        self.job.perform(&mut self.world, call);
    }

    /// Begin a request, whole or with more to come, and return its id.
    fn request(&mut self, is_whole: bool) -> u32 {
        let id = self.job.id();
        let request = Request {
            method: "POST".into(),
            url: "https://a.test/".into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: 0,
            follow_redirects: false,
            repeatable: false,
        };
        self.perform(if is_whole { Call::SendHttp { id, request } } else { Call::OpenHttp { id, request } });
        id
    }

    fn socket(&mut self) -> u32 {
        let id = self.job.id();
        let (url, headers, protocols) = ("wss://a.test/".into(), Vec::new(), Vec::new());
        self.perform(Call::ConnectSocket { id, url, headers, protocols, timeout_ms: 0 });
        id
    }

    /// The network tells this.
    fn tell(&mut self, events: impl IntoIterator<Item = NetworkEvent>) {
        self.fake.events.lock().unwrap().extend(events);
        self.world.advance(&mut self.job.access(0)).unwrap();
    }

    /// What the next step is given, by name and id.
    fn step(&mut self) -> Vec<(&'static str, u32)> {
        let events = self.job.step(&mut self.world);
        self.world.advance(&mut self.job.access(0)).unwrap();
        events.iter().map(|event| (name_of(event), id_of(event))).collect()
    }

    /// What the network was asked since the last call.
    fn asked(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.fake.asked.lock().unwrap())
    }
}

fn head(id: u32) -> NetworkEvent {
    NetworkEvent::Head { id, head: Head { status: 200, url: "https://a.test/".into(), headers: Vec::new() } }
}

fn body(id: u32, bytes: usize, last: bool) -> NetworkEvent {
    NetworkEvent::Body { id, bytes: vec![0; bytes], last }
}

fn failed(id: u32) -> NetworkEvent {
    NetworkEvent::Failed { id, failure: Failure { code: "timeout", status: 0, message: "too slow".into() } }
}

#[test]
fn agent_without_a_grant_is_told_what_to_add_and_opens_nothing() {
    let mut test = Test::new(false, 1 << 20);
    let id = test.request(true);
    let events = test.job.step(&mut test.world);
    let [Event::Failed(failure)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((failure.id, &*failure.code), (id, "not-allowed"));
    assert!(failure.message.contains("--allow-host"), "{failure:?}");
    test.perform(Call::WriteHttp { id, bytes: vec![1] });
    assert!(test.step().is_empty() && test.asked().is_empty() && test.world.network_use().is_empty());
}

#[test]
fn answer_is_given_in_parts_and_as_much_is_read_on() {
    let mut test = Test::new(true, 1 << 20);
    assert_eq!(test.world.nothing_to_come(), Some("the agent is not in a room"));
    let id = test.request(true);
    assert!(
        matches!(&test.asked()[..], [Command::Send { id: 1, request: HttpRequest { url, .. } }] if url == "https://a.test/")
    );
    assert_eq!(test.world.nothing_to_come(), None);
    assert_eq!(test.world.bytes_waiting(), 7_000, "what waits in the network is known to the job");
    let charges = [head(id), body(id, 100, false)].map(|event| event.charge());
    test.tell([head(id), body(id, 100, false)]);
    assert!(test.asked().is_empty(), "no step was given anything");
    assert_eq!(test.step(), [("http-head", id), ("http-body", id)]);
    assert_eq!(test.asked(), charges.map(|charge| Command::Taken { id, charge }));
    let last = body(id, 0, true);
    let charge = last.charge();
    test.tell([last]);
    assert_eq!(test.step(), [("http-body", id)]);
    assert_eq!(test.world.nothing_to_come(), Some("the agent is not in a room"));
    assert_eq!(test.asked(), [Command::Taken { id, charge }], "its place in the network is free");
    assert!(!test.world.network_use().is_empty());
}

#[test]
fn operation_that_is_given_up_tells_nothing_more() {
    let mut test = Test::new(true, 1 << 20);
    let (one, two) = (test.request(true), test.socket());
    test.perform(Call::Hold { id: one, held: true });
    test.tell([head(one), NetworkEvent::Opened { id: two, protocol: String::new(), headers: Vec::new() }]);
    assert_eq!(test.step(), [("socket-opened", two)]);
    test.perform(Call::Hold { id: one, held: false });
    test.tell([]);
    assert_eq!(test.step(), [("http-head", one)]);
    test.asked();
    test.perform(Call::Cancel { id: one });
    assert_eq!(test.asked(), [Command::Cancel { id: one }]);
    test.tell([body(one, 10, true), NetworkEvent::Text { id: two, text: "hi".into() }]);
    assert_eq!(test.step(), [("socket-text", two)]);
    test.tell([NetworkEvent::Closed { id: two, code: 1_000, reason: String::new() }]);
    assert_eq!(test.step(), [("socket-closed", two)]);
    assert_eq!(test.job.meter.used_bytes(), 0);
}

#[test]
fn events_wait_for_space_in_the_inbox() {
    // The inbox of this job has half of it.
    let mut test = Test::new(true, 64 << 10);
    let id = test.request(true);
    test.tell([head(id), body(id, 20 << 10, false), body(id, 20 << 10, false), body(id, 20 << 10, true)]);
    let mut given = Vec::new();
    for _ in 0..4 {
        given.extend(test.step());
    }
    assert_eq!(given, [("http-head", id), ("http-body", id), ("http-body", id), ("http-body", id)]);
    assert_eq!(test.job.meter.used_bytes(), 0);
}

#[test]
fn last_requests_reach_their_servers_and_the_rest_is_given_up() {
    let mut test = Test::new(true, 1 << 20);
    let (last, answered, upload, socket, done) =
        (test.request(true), test.request(true), test.request(false), test.socket(), test.request(false));
    test.perform(Call::EndHttp { id: done });
    test.tell([head(answered)]);
    test.step();
    test.asked();
    test.world.finish(&mut test.job.access(0)).unwrap();
    let close = Command::Close { id: socket, code: 1_001, reason: String::new() };
    assert_eq!(test.asked(), [Command::Cancel { id: answered }, Command::Cancel { id: upload }, close]);
    assert!(!test.world.is_delivered());
    test.tell([head(last), failed(done), NetworkEvent::Closed { id: socket, code: 1_001, reason: String::new() }]);
    assert!(test.world.is_delivered() && test.step().is_empty());
    assert!(test.asked().contains(&Command::Cancel { id: last }));
}

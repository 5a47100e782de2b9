//! What a worker sends to the dispatcher, and what must hold for the dispatcher's session, whatever it is.

use std::mem::discriminant;
use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use proto::server_message::Message as ToWorker;
use tokio::time::Instant;
use wasm_worker_protocol::dispatcher_session::{Due, Encoding, Received, Session, WorkerMessage, WorkerRegistration};
use wasm_worker_protocol::report::{DETAIL_BYTES_MAX, USAGE_BYTES_MAX};

use crate::parts::parts;
use crate::server_frames::shown;

/// A step that takes time takes up to 26 seconds.
const TICK: Duration = Duration::from_millis(100);
/// Most times that a session is woken at one moment.
const WAKES_MAX: usize = 3;
/// Longest name of a worker, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Most jobs that one connection reports after a reconnect.
const MIGRATED_JOBS_MAX: usize = 20_000;

/// A part that begins with `b` is a binary frame, one with `j` a text. The bytes of another part are times.
pub fn run(bytes: &[u8]) {
    let mut run = Run::new();
    for part in parts(bytes) {
        let open = match part.split_first() {
            Some((b'b', frame)) => run.receive(Encoding::Binary, frame),
            Some((b'j', frame)) => run.receive(Encoding::Json, frame),
            _ => part.iter().all(|ticks| run.wait(TICK * (*ticks).into())),
        };
        // The next connection has another session.
        if !open {
            run = Run::new();
        }
    }
}

/// A session, and what its connection has come to.
struct Run {
    now: Instant,
    session: Session,
    registered: bool,
    migrated: usize,
}

impl Run {
    fn new() -> Self {
        let now = Instant::now();
        Self { now, session: Session::new(now), registered: false, migrated: 0 }
    }

    /// Returns whether the connection stays open.
    fn receive(&mut self, encoding: Encoding, frame: &[u8]) -> bool {
        let received = self.session.receive(self.now, encoding, frame);
        if encoding == Encoding::Json {
            same_in_protobuf(self.registered, frame, &received);
        }
        match received {
            Err(why) => shown(&why),
            Ok(received) => {
                self.check(received);
                return true;
            }
        }
        false
    }

    fn check(&mut self, received: Received) {
        match received {
            Received::Register(registration) => {
                assert!(!self.registered, "a worker registers twice");
                self.registered = true;
                let WorkerRegistration { dispatch_key, instance, version, .. } = *registration;
                [&*instance, &*version].into_iter().for_each(shown);
                let names = [dispatch_key.agent, dispatch_key.deployment, instance, version];
                assert!(names.iter().all(|name| name.len() <= NAME_BYTES_MAX), "{names:?}");
                assert!(proto::JobType::try_from(dispatch_key.job_type).is_ok());
            }
            Received::Message(message) => {
                assert!(self.registered, "a message is read before the registration");
                self.check_message(message);
            }
            Received::Ping { timestamp } => {
                // The answer is one that a worker can read, in the encoding of its frame.
                let pong =
                    self.session.encode(ToWorker::Pong(proto::WorkerPong { last_timestamp: timestamp, timestamp }));
                assert!(pong.bytes() < 256);
            }
            Received::Simulate(_) => assert!(self.registered),
            Received::Nothing => {}
        }
    }

    fn check_message(&mut self, message: WorkerMessage) {
        match message {
            WorkerMessage::Answer(answer) => name(&answer.participant_identity),
            WorkerMessage::Migrate { jobs } => {
                assert!(!jobs.is_empty());
                jobs.iter().for_each(|job| name(job));
                self.migrated += jobs.len();
                assert!(self.migrated <= MIGRATED_JOBS_MAX, "{} jobs", self.migrated);
            }
            WorkerMessage::Ended { end, .. } => {
                shown(&end.verdict.detail);
                assert!(end.verdict.detail.len() <= DETAIL_BYTES_MAX);
                end.verdict.backtrace.iter().for_each(|frame| shown(frame));
                assert!(end.usage.is_none_or(|usage| usage.len() <= USAGE_BYTES_MAX));
            }
            WorkerMessage::Full { scarce, .. } => {
                assert!(scarce.used.is_finite() && scarce.limit.is_finite());
                shown(&scarce.to_string());
            }
            WorkerMessage::Status { .. } | WorkerMessage::Running { .. } => {}
        }
    }

    /// Returns whether the connection stays open.
    fn wait(&mut self, time: Duration) -> bool {
        self.now += time;
        for _ in 0..WAKES_MAX {
            match (self.session.wake_at() <= self.now, self.session.due(self.now)) {
                (_, Some(Due::Close(why))) => {
                    shown(&why);
                    return false;
                }
                (true, Some(Due::Ping)) => {}
                (false, None) => return true,
                (woken, due) => panic!("woken: {woken}, and {due:?} is due"),
            }
        }
        panic!("the session wants to be woken without end");
    }
}

/// A name or an id: one line, and not long.
fn name(text: &str) {
    assert!(text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control), "{text:?}");
}

/// A message means the same in both encodings.
fn same_in_protobuf(registered: bool, json: &[u8], received: &Result<Received, String>) {
    let Ok(message) = serde_json::from_slice::<proto::WorkerMessage>(json) else { return };
    let now = Instant::now();
    let mut other = Session::new(now);
    if registered {
        let register = proto::worker_message::Message::Register(proto::RegisterWorkerRequest::default());
        let register = proto::WorkerMessage { message: Some(register) }.encode_to_vec();
        other.receive(now, Encoding::Binary, &register).expect("a registration");
    }
    let binary = other.receive(now, Encoding::Binary, &message.encode_to_vec());
    match (received, binary) {
        (Ok(json), Ok(binary)) => assert_eq!(discriminant(json), discriminant(&binary), "{json:?}, or {binary:?}"),
        (Err(json), Err(binary)) => assert_eq!(json, &binary),
        (json, binary) => panic!("{json:?} in JSON, and {binary:?} in protobuf"),
    }
}

//! What a worker sends to the dispatcher: frames of a WebSocket, and bytes that are none, with jobs that it may take.

use std::net::TcpStream;
use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use proto::server_message::Message as ToWorker;

use crate::parts::{filled, parts};
use crate::served::{self, PATIENCE, Served};

/// Most parts of an input.
const PARTS_MAX: usize = 24;
/// A dispatcher that is silent for so long waits for the rest of a message.
const SILENCE: Duration = Duration::from_millis(25);
/// Largest frame that a worker gets, in bytes.
const FRAME_BYTES_MAX: usize = 2 << 20;
/// The time in a ping. What answers it contains the same, as a varint or as digits.
const STAMP: i64 = 0x7777_7777_7777_7777;
const STAMP_BYTES: &[u8] = b"\xf7\xee\xdd\xbb\xf7\xee\xdd\xbb\x77";
const STAMP_DIGITS: &[u8] = b"8608480567731124087";
/// What an input calls the job of the newest offer. It has the length of an id, so the lengths around it stay right.
const JOB: &str = "AJ_jjjjjjjjjjjj";
const FINAL_BINARY: u8 = 0x82;
const FINAL_TEXT: u8 = 0x81;
const MASKED: u8 = 0x80;

/// The first byte of a part says what the others are: `b` a binary frame, `j` a text, `r` bytes of the connection, `d` a request
/// for a dispatch, `x` its end, and `n` nothing, on a new connection. A worker whose part is a frame waits until it is read.
pub fn run(bytes: &[u8]) {
    play(bytes);
}

/// The same, and the number of jobs that the worker was given.
pub fn play(bytes: &[u8]) -> usize {
    let mut assigned = 0;
    served::with_dispatcher(|dispatcher| {
        let mut worker = Worker::connect(dispatcher);
        for part in parts(bytes).take(PARTS_MAX) {
            match part.split_first() {
                Some((b'b', frame)) => worker.send(FINAL_BINARY, frame),
                Some((b'j', text)) => worker.send(FINAL_TEXT, text),
                Some((b'r', bytes)) => served::write(&mut worker.stream, &filled(bytes, &[(JOB, &worker.job)])),
                Some((b'd', request)) => call(dispatcher, "CreateDispatch", request),
                Some((b'x', request)) => call(dispatcher, "DeleteDispatch", request),
                Some((b'n', _)) => worker = worker.reconnect(dispatcher),
                _ => {}
            }
        }
        assigned = worker.finish();
    });
    assigned
}

/// The connection of a worker.
struct Worker {
    stream: TcpStream,
    /// The newest job that it was offered.
    job: String,
    /// What the dispatcher sent, after the head of its answer.
    received: Vec<u8>,
    open: bool,
    /// The jobs that it was given.
    assigned: usize,
}

impl Worker {
    fn connect(dispatcher: &Served) -> Self {
        let mut stream = dispatcher.connect();
        let upgrade =
            "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA";
        let token = &dispatcher.worker_token;
        let head = format!("GET /agent HTTP/1.1\r\nAuthorization: Bearer {token}\r\n{upgrade}\r\n\r\n");
        served::write(&mut stream, head.as_bytes());
        let mut answer = Vec::new();
        let open = served::read(&mut stream, &mut answer, PATIENCE, |answer| answer.ends_with(b"\r\n\r\n"));
        assert!(open && answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        Self { stream, job: JOB.into(), received: Vec::new(), open, assigned: 0 }
    }

    /// Send a frame, and wait until it is read. A registered worker has then received what comes of it.
    fn send(&mut self, first: u8, payload: &[u8]) {
        if !self.open {
            return;
        }
        let ping = proto::WorkerPing { timestamp: STAMP };
        let ping = proto::WorkerMessage { message: Some(proto::worker_message::Message::Ping(ping)) };
        let ping = if first == FINAL_TEXT { serde_json::to_vec(&ping).unwrap() } else { ping.encode_to_vec() };
        let payload = filled(payload, &[(JOB, &self.job)]);
        served::write(&mut self.stream, &[frame(first, &payload), frame(first, &ping)].concat());
        let answers = |bytes: &[u8], stamp: &[u8]| bytes.windows(stamp.len()).any(|window| window == stamp);
        self.open = served::read(&mut self.stream, &mut self.received, SILENCE, |bytes| {
            answers(bytes, STAMP_BYTES) || answers(bytes, STAMP_DIGITS)
        });
        self.check();
    }

    /// What has arrived are whole messages that a worker can read, and the begin of another.
    fn check(&mut self) {
        let (mut rest, mut job) = (self.received.as_slice(), None);
        while let Some((first, payload, after)) = next_frame(rest) {
            assert!(payload.len() <= FRAME_BYTES_MAX, "a frame has {} bytes", payload.len());
            let message = match first {
                FINAL_BINARY => proto::ServerMessage::decode(payload).expect("protobuf that is none").message,
                FINAL_TEXT => {
                    serde_json::from_slice::<proto::ServerMessage>(payload).expect("JSON that is none").message
                }
                _ => None,
            };
            match message {
                Some(ToWorker::Availability(offer)) => job = Some(offer.job.expect("an offer without a job").id),
                Some(ToWorker::Assignment(assignment)) => {
                    assert!(assignment.job.is_some() && !assignment.token.is_empty());
                    self.assigned += 1;
                }
                _ => {}
            }
            rest = after;
        }
        self.received = rest.to_vec();
        self.job = job.unwrap_or(std::mem::take(&mut self.job));
    }

    fn reconnect(self, dispatcher: &Served) -> Self {
        let job = self.job.clone();
        let assigned = self.finish();
        Self { job, assigned, ..Self::connect(dispatcher) }
    }

    /// Close the connection, and return the number of jobs.
    fn finish(mut self) -> usize {
        served::finish(&mut self.stream, &mut self.received);
        self.check();
        self.assigned
    }
}

/// A frame of a client whose mask changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        short @ 0..126 => vec![MASKED | short as u8],
        long => [&[MASKED | 127][..], &(long as u64).to_be_bytes()].concat(),
    };
    [&[first][..], &length, &[0; 4], payload].concat()
}

/// The first byte and the payload of the first whole frame, and what is behind it.
fn next_frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        126 => rest.split_first_chunk().map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))?,
        127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
        _ => (u64::from(*short), rest),
    };
    let (payload, rest) = rest.split_at_checked(length as usize)?;
    Some((*first, payload, rest))
}

fn call(dispatcher: &Served, method: &str, request: &[u8]) {
    let (mut stream, mut answer) = (dispatcher.connect(), Vec::new());
    let path = format!("POST /twirp/livekit.AgentDispatchService/{method} HTTP/1.1");
    let (token, length) = (&dispatcher.caller_token, request.len());
    let head =
        format!("{path}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nConnection: close");
    served::write(&mut stream, format!("{head}\r\nContent-Length: {length}\r\n\r\n").as_bytes());
    served::write(&mut stream, request);
    assert!(!served::read(&mut stream, &mut answer, PATIENCE, |_| false), "a request is not answered");
}

//! A stand-in for the host on the build machine: it keeps the calls of HTTP, sockets, sound and usage, and a test delivers the
//! events. It is for tests of the SDK and of the crates beside it.

use std::cell::{Cell, RefCell};

use crate::types::ModelUsage;
use crate::{Event, contract, executor, operation};

/// A call that an agent made.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the calls of the contract, with their arguments")]
pub enum Call {
    Cancel(u32),
    Hold(u32, bool),
    HttpSend(u32, contract::http::Request),
    HttpOpen(u32, contract::http::Request),
    HttpWrite(u32, Vec<u8>),
    HttpEnd(u32),
    SocketConnect(u32, String),
    SocketText(u32, String),
    SocketBytes(u32, Vec<u8>),
    SocketClose(u32, u16),
    AudioSubscribe(u32, String),
    AudioFollow(u32, contract::audio::Rule),
    AudioPublish(u32, contract::audio::Publication),
    AudioWrite(u32, Vec<u8>),
    AudioMark(u32, u32),
    AudioMute(u32, bool),
    AudioClear(u32),
    AudioClose(u32),
    Usage(ModelUsage),
}

thread_local! {
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
    static LAST_ID: Cell<u32> = const { Cell::new(0) };
}

/// Runs one step of the tasks that were [spawned](crate::spawn()).
pub fn step(now_ms: f64, events: Vec<Event>) {
    executor::run_step(now_ms, events, |_| ());
}

/// The calls since the last time this was asked.
pub fn take_calls() -> Vec<Call> {
    CALLS.take()
}

/// Number of ids that the agent holds.
pub fn open_ids() -> usize {
    operation::open_ids()
}

fn push(call: Call) {
    // When a thread of a test ends, its tasks are dropped, and nobody reads what they call.
    CALLS.try_with(|calls| calls.borrow_mut().push(call)).ok();
}

fn next_id() -> u32 {
    LAST_ID.set(LAST_ID.get() + 1);
    LAST_ID.get()
}

/// Bytes that are the same in each run.
pub(crate) fn random(len: u32) -> Vec<u8> {
    (0..len).map(|_| 0x55).collect()
}

pub(crate) mod audio {
    use super::{Call, next_id, push};
    use crate::contract::audio::{Publication, Rule, Subscription};

    pub(crate) fn subscribe(track_sid: &str, _options: Subscription) -> u32 {
        let id = next_id();
        push(Call::AudioSubscribe(id, track_sid.to_owned()));
        id
    }

    pub(crate) fn follow(rule: &Rule, _options: Subscription) -> u32 {
        let id = next_id();
        push(Call::AudioFollow(id, rule.clone()));
        id
    }

    pub(crate) fn publish(options: &Publication) -> u32 {
        let id = next_id();
        push(Call::AudioPublish(id, options.clone()));
        id
    }

    pub(crate) fn write(id: u32, pcm: &[u8]) {
        push(Call::AudioWrite(id, pcm.to_vec()));
    }

    pub(crate) fn mark(id: u32, mark: u32) {
        push(Call::AudioMark(id, mark));
    }

    pub(crate) fn mute(id: u32, muted: bool) {
        push(Call::AudioMute(id, muted));
    }

    pub(crate) fn clear(id: u32) {
        push(Call::AudioClear(id));
    }

    pub(crate) fn close(id: u32) {
        push(Call::AudioClose(id));
    }
}

pub(crate) mod flow {
    use super::{Call, push};

    pub(crate) fn cancel(id: u32) {
        push(Call::Cancel(id));
    }

    pub(crate) fn hold(id: u32, held: bool) {
        push(Call::Hold(id, held));
    }
}

pub(crate) mod http {
    use super::{Call, next_id, push};
    pub(crate) use crate::contract::http::Request;

    pub(crate) fn send(request: &Request) -> u32 {
        let id = next_id();
        push(Call::HttpSend(id, request.clone()));
        id
    }

    pub(crate) fn open(request: &Request) -> u32 {
        let id = next_id();
        push(Call::HttpOpen(id, request.clone()));
        id
    }

    pub(crate) fn write(id: u32, bytes: &[u8]) {
        push(Call::HttpWrite(id, bytes.to_vec()));
    }

    pub(crate) fn end(id: u32) {
        push(Call::HttpEnd(id));
    }
}

pub(crate) mod socket {
    use super::{Call, next_id, push};

    pub(crate) fn connect(url: &str, _headers: &[(String, String)], _protocols: &[String], _timeout_ms: u32) -> u32 {
        let id = next_id();
        push(Call::SocketConnect(id, url.to_owned()));
        id
    }

    pub(crate) fn send_text(id: u32, text: &str) {
        push(Call::SocketText(id, text.to_owned()));
    }

    pub(crate) fn send_bytes(id: u32, bytes: &[u8]) {
        push(Call::SocketBytes(id, bytes.to_vec()));
    }

    pub(crate) fn close(id: u32, code: u16, _reason: &str) {
        push(Call::SocketClose(id, code));
    }
}

pub(crate) mod usage {
    use super::{Call, push};
    use crate::types::ModelUsage;

    pub(crate) fn add(usage: &ModelUsage) {
        push(Call::Usage(usage.clone()));
    }

    pub(crate) fn summary() -> Vec<ModelUsage> {
        Vec::new()
    }
}

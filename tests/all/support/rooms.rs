//! Rooms that people and agents meet in: those of a LiveKit server, and our own.

use std::path::{Path, PathBuf};

use livekit_token::{AccessToken, VideoGrants};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::dispatcher::{Dispatcher, ask, everything};
use super::harness::{Done, Started, eventually, path, root};
use super::livekit_server::LiveKitServer;
use super::people::{Client, Person};
use super::scripted_server::behind;

/// A server that has rooms.
pub(crate) enum RoomServer {
    LiveKit(LiveKitServer),
    /// The dispatcher of the program.
    Own(Dispatcher),
}

impl RoomServer {
    pub(crate) fn url(&self) -> String {
        match self {
            Self::LiveKit(server) => server.url(),
            Self::Own(dispatcher) => dispatcher.url.clone(),
        }
    }

    /// End it as nobody expects, and start it again in the same place.
    pub(crate) fn restarts(&mut self) {
        match self {
            Self::LiveKit(server) => {
                server.kill();
                server.start_again();
            }
            Self::Own(dispatcher) => {
                dispatcher.kill();
                dispatcher.start_again();
            }
        }
    }

    /// Somebody whose client joins this room.
    pub(crate) fn person(&self, client: Client, room: &str) -> Option<Person> {
        client.joins(&self.url(), &token(room, client.name()))
    }

    /// A worker of this example.
    pub(crate) fn worker(&self, example: &str) -> RoomWorker {
        RoomWorker::behind(&self.url(), example, &example_dir(example))
    }

    /// Send an agent of this name into a room.
    #[track_caller]
    pub(crate) fn dispatch(&self, room: &str, agent: &str) {
        dispatch(&self.url(), room, agent);
    }
}

pub(crate) fn example_dir(example: &str) -> PathBuf {
    root().join("examples").join(example)
}

#[track_caller]
pub(crate) fn dispatch(url: &str, room: &str, agent: &str) {
    dispatch_with(url, room, agent, "");
}

#[track_caller]
pub(crate) fn dispatch_with(url: &str, room: &str, agent: &str, metadata: &str) {
    let body = json!({ "agent_name": agent, "room": room, "metadata": metadata }).to_string();
    let method = "/twirp/livekit.AgentDispatchService/CreateDispatch";
    let answer = ask(url, "POST", method, "application/json", &everything(room), &[], &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[track_caller]
pub(crate) fn delete_room(url: &str, room: &str) {
    let body = json!({ "room": room }).to_string();
    let method = "/twirp/livekit.RoomService/DeleteRoom";
    let answer = ask(url, "POST", method, "application/json", &everything(room), &[], &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
}

pub(crate) fn token(room: &str, identity: &str) -> String {
    let grants = VideoGrants { room_join: true, room: room.into(), ..VideoGrants::default() };
    AccessToken::with_api_key("devkey", "secret").with_identity(identity).with_grants(grants).to_jwt().unwrap()
}

/// A worker whose jobs join rooms, and what it publishes. A test that fails shows both.
pub(crate) struct RoomWorker {
    process: Option<Started>,
    events: tempfile::NamedTempFile,
}

impl RoomWorker {
    /// A worker of an agent of this name behind the server of this URL.
    #[track_caller]
    pub(crate) fn behind(url: &str, name: &str, agent: &Path) -> Self {
        Self::with_flags(url, name, agent, &[])
    }

    #[track_caller]
    pub(crate) fn with_flags(url: &str, name: &str, agent: &Path, flags: &[&str]) -> Self {
        let events = tempfile::NamedTempFile::new().unwrap();
        let call = behind(url, &[path(agent)]).args(["--agent-name", name, "--http", "off"]);
        let call = call.args(["--events", path(events.path())]).args(flags.iter().copied());
        let process = call.start();
        let worker = Self { process: Some(process), events };
        worker.publishes("worker.registered", 1);
        worker
    }

    /// Wait until it has published so many events of this name, and return these.
    #[track_caller]
    pub(crate) fn publishes(&self, event: &str, times: usize) -> Vec<Value> {
        let published = || self.published(event);
        let is_there = || Some(published()).filter(|events| events.len() >= times);
        eventually(&format!("the worker publishes `{event}`: {}", self.said()), is_there)
    }

    /// The events of this name so far.
    pub(crate) fn published(&self, event: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.events.path()).unwrap();
        // The last line may be half written.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"] == event).collect()
    }

    /// Its log so far.
    pub(crate) fn said(&self) -> String {
        self.process.as_ref().map(Started::said).unwrap_or_default()
    }

    /// Ask it to end, and wait for it.
    pub(crate) fn stop(mut self) -> Done {
        let process = self.process.take().unwrap();
        process.signal(Signal::TERM);
        process.done()
    }
}

impl Drop for RoomWorker {
    #[expect(clippy::print_stderr, reason = "it helps those who read why a test fails")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}{}", std::fs::read_to_string(self.events.path()).unwrap_or_default(), self.said());
        }
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }
}

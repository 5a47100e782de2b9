//! The people of the rooms: ours in one process, and somebody by each of LiveKit's clients.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::harness::{root, target_dir};
use crate::support::livekit_server::LiveKitServer;
use crate::support::people::{Client, Person};
use crate::support::rooms::{dispatch, token};
use crate::{AGENT, SAY_EVERY};

/// `host/room/examples/people.rs`.
pub(crate) struct People {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl People {
    pub(crate) fn start(url: &str) -> Self {
        let mut command = Command::new(people());
        let mut process = command.args([url, "room"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, orders, answers }
    }

    /// The id of their process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn order(&mut self, order: &str) -> Value {
        writeln!(self.orders, "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{order}: {error}: {answer}"))
    }

    pub(crate) fn talk(&mut self, time: Duration) -> Value {
        self.order(&format!("talk {} {}", time.as_secs(), SAY_EVERY.as_millis()))
    }

    /// Say texts that are answered so.
    pub(crate) fn ask(&mut self, time: Duration, every: Duration, answer: &str) -> Value {
        self.order(&format!("talk {} {} {answer}", time.as_secs(), every.as_millis()))
    }

    pub(crate) fn leave(mut self) {
        self.order("leave");
        self.process.wait().unwrap();
    }
}

impl Drop for People {
    fn drop(&mut self) {
        // It may have ended.
        self.process.kill().unwrap_or_default();
        drop(self.process.wait());
    }
}

/// Compiled as this bench is.
fn people() -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_wasm-worker")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["build", "--quiet", "--locked", "-p", "wasm-worker-room", "--example", "people"]);
    cargo.arg("--target-dir").arg(target_dir());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the people do not compile");
    profile.join("examples/people")
}

/// Somebody by a client that is not ours, in a room of its own.
pub(crate) struct Foreign {
    person: Person,
    client: Client,
    url: String,
    echoes: usize,
}

impl Foreign {
    pub(crate) fn join(server: &LiveKitServer) -> Vec<Self> {
        let url = server.url();
        let join = |client: Client| {
            let person = client.joins(&url, &token(client.name(), client.name()))?;
            Some(Self { person, client, url: url.clone(), echoes: 0 })
        };
        [Client::Python, Client::Node, Client::Browser].into_iter().filter_map(join).collect()
    }

    pub(crate) fn meets(&mut self) {
        self.person.sees("room", |line| line["saw"] == "connected");
        dispatch(&self.url, self.client.name(), AGENT);
        self.person.sees("agent", |line| line["saw"] == "joined");
        self.talks();
    }

    pub(crate) fn talks(&mut self) {
        for number in 0..5 {
            self.person.order(&json!({ "do": "text", "topic": "lk.chat", "text": number.to_string() }));
            self.person.sees("echo", |line| line["saw"] == "text" && line["text"] == format!("echo {number}"));
            self.echoes += 1;
        }
    }

    pub(crate) fn leaves(mut self) -> String {
        let lost = self.person.told().iter().filter(|line| line["saw"] == "reconnecting").count();
        let told = format!("{} {} echoes, {lost} reconnections", self.client.name(), self.echoes);
        self.person.leaves();
        told
    }
}

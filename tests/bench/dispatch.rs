//! What a dispatch costs, with the queue on disk: `cargo bench --bench dispatch`, one minute. A worker with its own dispatcher
//! is called over HTTP as LiveKit's clients call, and its events say when an agent's entrypoint was called.
//!
//! The store alone is measured by `cargo test --lib measure_the_store -- --ignored --nocapture`.
//!
//! Bounds: [`WITHIN`] for all of a burst.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a bench that cannot run says why by panicking, its output is data, and it has threads of its own"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use livekit_token::{AccessToken, VideoGrants};
use serde_json::{Value, json};
use wasm_worker_sandbox::agent::cargo;

const ONE_AT_A_TIME: usize = 500;
const BURSTS: [usize; 2] = [60, 1_000];
const THROUGH_THE_API: usize = 20_000;
/// Callers at once, each with a connection of its own.
const CALLERS: usize = 32;
const WITHIN: Duration = Duration::from_secs(60);

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    for sync in ["commit", "checkpoint"] {
        println!("store-sync {sync}");
        one_at_a_time(sync);
        for count in BURSTS {
            burst(sync, count);
        }
        through_the_api(sync);
    }
}

/// A worker with its dispatcher, or a dispatcher alone.
struct Subject {
    process: Child,
    url: String,
    /// Events, each with the moment it was read.
    events: Receiver<(Instant, Value)>,
    _dir: tempfile::TempDir,
}

impl Subject {
    fn start(words: &[&str], sync: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-worker"));
        command.args(words).args(["--listen", &listen, "--store-sync", sync, "--events", "-", "--log-level", "error"]);
        command.args(["--queue-limit", "100000", "--store"]).arg(dir.path().join("store.db"));
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, events) = channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    drop(sender.send((Instant::now(), event)));
                }
            }
        });
        Self { process, url: format!("http://{listen}"), events, _dir: dir }
    }

    fn worker(sync: &str) -> Self {
        let agent = guests().join("brief.wasm");
        let words = ["run", agent.to_str().unwrap(), "--http", "off", "--load-threshold", "none", "--max-jobs", "1000"];
        let subject = Self::start(&words, sync);
        while subject.event("worker.registered").is_none() {}
        subject
    }

    /// The next event of this name, if the next event is one.
    fn event(&self, name: &str) -> Option<(Instant, Value)> {
        let event = self.events.recv_timeout(WITHIN).expect("nothing happens any more");
        Some(event).filter(|(_, event)| event["event"] == name)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Where the guests are, once they are compiled.
fn guests() -> PathBuf {
    let mut build = cargo::component_build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests")).unwrap();
    assert!(build.args(["--quiet", "--examples"]).status().unwrap().success(), "the guests do not compile");
    let target = Path::new(env!("CARGO_BIN_EXE_wasm-worker")).ancestors().nth(2).unwrap();
    target.join(cargo::TARGET).join("agent/examples")
}

/// A connection to call on.
struct Caller {
    agent: ureq::Agent,
    url: String,
    token: String,
}

impl Caller {
    fn new(subject: &Subject) -> Self {
        let grants = VideoGrants { room_admin: true, room: "bench".into(), ..Default::default() };
        let token = AccessToken::with_api_key("devkey", "secret").with_grants(grants).to_jwt().unwrap();
        let url = format!("{}/twirp/livekit.AgentDispatchService/CreateDispatch", subject.url);
        let caller = Self { agent: ureq::Agent::new_with_defaults(), url, token };
        // It has its connection from here on; nobody serves this agent.
        caller.create("warm");
        caller
    }

    fn create(&self, agent: &str) -> String {
        let body = json!({ "agent_name": agent, "room": "bench" }).to_string();
        let request = self.agent.post(&self.url).header("Authorization", format!("Bearer {}", self.token));
        let mut answer = request.header("Content-Type", "application/json").send(body).unwrap();
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        answer["id"].as_str().unwrap().to_owned()
    }
}

fn one_at_a_time(sync: &str) {
    let subject = Subject::worker(sync);
    let caller = Caller::new(&subject);
    let (mut created, mut assigned, mut launched) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ONE_AT_A_TIME {
        let began = Instant::now();
        caller.create("brief");
        created.push(began.elapsed());
        loop {
            let (at, event) = subject.events.recv_timeout(WITHIN).expect("nothing happens any more");
            match event["event"].as_str() {
                Some("dispatch.assigned") => assigned.push(at.saturating_duration_since(began)),
                Some("job.launched") => launched.push(at.saturating_duration_since(began)),
                Some("dispatch.ended") => break,
                _ => {}
            }
        }
    }
    for (what, times) in [("accepted, on disk", created), ("assigned", assigned), ("entrypoint called", launched)] {
        println!("  from the call until {what:<18} {}", percentiles(times));
    }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    format!("p50 {:>8.2?}  p99 {:>8.2?}  of {}", at(50), at(99), times.len())
}

fn burst(sync: &str, count: usize) {
    let subject = Subject::worker(sync);
    let callers: Vec<Caller> = (0..CALLERS).map(|_| Caller::new(&subject)).collect();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (place, caller) in callers.iter().enumerate() {
            scope.spawn(move || (place..count).step_by(CALLERS).for_each(|_| drop(caller.create("brief"))));
        }
    });
    let accepted = began.elapsed();
    let (mut launched, mut ended, mut last) = (0, HashMap::<String, usize>::new(), began);
    while ended.values().sum::<usize>() < count {
        let (at, event) = subject.events.recv_timeout(WITHIN).expect("some do not end");
        match event["event"].as_str() {
            Some("job.launched") => launched += 1,
            Some("dispatch.ended") => {
                last = at;
                *ended.entry(event["code"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            _ => {}
        }
    }
    let all = last.saturating_duration_since(began);
    println!(
        "  {count} at once: all accepted after {accepted:.1?}, {launched} ran, the last ended after {all:.1?}: {ended:?}"
    );
}

fn through_the_api(sync: &str) {
    let subject = Subject::start(&["serve"], sync);
    while std::net::TcpStream::connect(subject.url.trim_start_matches("http://")).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let callers: Vec<Caller> = (0..CALLERS).map(|_| Caller::new(&subject)).collect();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (place, caller) in callers.iter().enumerate() {
            scope.spawn(move || (place..THROUGH_THE_API).step_by(CALLERS).for_each(|_| drop(caller.create("nobody"))));
        }
    });
    let rate = THROUGH_THE_API as f64 / began.elapsed().as_secs_f64();
    println!("  {rate:.0} dispatches a second through the API, each on disk when its call returns ({CALLERS} callers)");
}

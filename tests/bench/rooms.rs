//! Rooms of a LiveKit server with an agent in each, of ours and of livekit-agents, as tables for FIGURES.md:
//!
//! ```text
//! LIVEKIT_SERVER=… cargo bench --bench rooms                      # 10 rooms beside livekit-agents, then 100, 1,000 and 2,000
//! LIVEKIT_SERVER=… cargo bench --bench rooms -- 10 100            # these numbers of rooms
//! LIVEKIT_SERVER=… cargo bench --bench rooms -- soak [ROOMS] [MINUTES]
//! LIVEKIT_SERVER=… cargo bench --bench rooms -- models [ROOMS]
//! LIVEKIT_SERVER=… cargo bench --bench rooms -- sound [ROOMS [MODE]]
//! LIVEKIT_SERVER=… cargo bench --bench rooms -- neighbours [ROOMS]
//! LIVEKIT_SERVER=… cargo bench --bench rooms -- sound-soak [ROOMS] [MINUTES]
//! cargo bench --bench rooms -- own [ROOMS]                        # rooms of our own dispatcher
//! ```
//!
//! The agents echo texts. The people are `host/room/examples/people.rs`, one process for all; with more than ten rooms one more person
//! each by LiveKit's clients for Python, Node and browsers is in a room of its own. A time until an agent is there is seen by the person
//! in its room: from the request of a dispatch to the server until the server tells that the agent is active. CPU and memory are those
//! of the worker and all that it started, without server and people. Both workers are at their defaults, but take every job.
//!
//! With `models` the agents answer by the same stand-in for a model; see `rooms/conversations.rs`. With `sound`
//! they hear and speak; see `rooms/sound.rs`. With `neighbours` they do so beside busy jobs of the same worker, and with `sound-soak`
//! for a long time; see `rooms/steady_sound.rs`. With `own` the rooms are those of our own dispatcher, with three people and an agent in
//! each; see `rooms/own_rooms.rs`.
//!
//! A soak is [`SOAK_ROOMS`] rooms for [`SOAK_MINUTES`] minutes, with a text every two seconds in each. It fails where a text has no echo,
//! where the memory grows by more than [`GROWTH_MAX`], or where descriptors are left when all rooms are over.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    dead_code,
    reason = "a bench that cannot run says why by panicking, its output is data, and the tests use the rest of the modules"
)]

#[path = "rooms/conversations.rs"]
mod conversations;
#[path = "rooms/people.rs"]
mod in_rooms;
#[path = "rooms/own_rooms.rs"]
mod own_rooms;
mod process;
#[path = "rooms/sound.rs"]
mod sound;
mod stand_in;
#[path = "rooms/steady_sound.rs"]
mod steady_sound;
#[path = "../all/support"]
mod support {
    pub(crate) mod harness;
    pub(crate) mod scripted_server;
    pub(crate) mod dispatcher;
    pub(crate) mod toolchains;
    pub(crate) mod livekit_server;
    pub(crate) mod people;
    pub(crate) mod rooms;

    pub(crate) fn skip(what: &str, reason: &str) {
        println!("left out: {what}: {reason}");
    }

    pub(crate) use skip as skip_for_the_system;
}

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use in_rooms::{Foreign, People};
use process::{Memory, Process};
use serde_json::Value;
use support::harness::{guest, target_dir};
use support::livekit_server::LiveKitServer;
use support::toolchains::{PYTHON, installed_python};
use tokio::time::Instant;

const AGENT: &str = "echo";
/// Those that livekit-agents has beside ours: each takes a process.
const THEIR_ROOMS: usize = 10;
const ROOMS: [usize; 4] = [10, 100, 1_000, 2_000];
/// Agents that come at once where there are more than these; the percentiles of the times are of the first ones, one at a time.
const ONE_AT_A_TIME: usize = 50;
const AT_ONCE: usize = 4;
/// In which a worker comes to rest.
const SETTLE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(20);
const TALK: Duration = Duration::from_secs(20);
const SAY_EVERY: Duration = Duration::from_secs(2);
/// Time in which a worker ends.
const STOP_WITHIN: Duration = Duration::from_secs(30);

const SOAK_ROOMS: usize = 200;
const SOAK_MINUTES: usize = 30;
/// The last minutes beside those at the start.
const GROWTH_MAX: f64 = 0.05;
/// Minutes at the start and at the end that are compared; the very first one does not count.
const COMPARED: usize = 3;
/// In which the server ends the rooms that everybody has left, and the worker the jobs.
const OVER_WITHIN: Duration = Duration::from_secs(180);

/// One of the two that are compared.
#[derive(Clone)]
enum Subject {
    Ours,
    /// The directory of livekit-agents.
    Theirs(PathBuf),
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    // `cargo test --benches` only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let words: Vec<String> = arguments.by_ref().filter(|word| word != "--bench").collect();
    let number = |at: usize, or: usize| words.get(at).map_or(or, |word| word.parse().unwrap());
    if words.first().is_some_and(|word| word == "soak") {
        soak(number(1, SOAK_ROOMS), number(2, SOAK_MINUTES));
    } else if words.first().is_some_and(|word| word == "models") {
        conversations::table(number(1, conversations::ROOMS));
    } else if words.first().is_some_and(|word| word == "sound") {
        sound::table(number(1, sound::ROOMS), words.get(2).map(String::as_str));
    } else if words.first().is_some_and(|word| word == "neighbours") {
        steady_sound::neighbours(number(1, steady_sound::ROOMS));
    } else if words.first().is_some_and(|word| word == "sound-soak") {
        steady_sound::soak(number(1, steady_sound::ROOMS), number(2, SOAK_MINUTES));
    } else if words.first().is_some_and(|word| word == "own") {
        own_rooms::table(number(1, own_rooms::ROOMS));
    } else if words.is_empty() {
        table(&ROOMS);
    } else {
        table(&words.iter().map(|word| word.parse().unwrap()).collect::<Vec<_>>());
    }
}

fn table(sizes: &[usize]) {
    let mut columns = Vec::new();
    if let Some(theirs) = installed_python("livekit_agents") {
        columns.extend(column(&Subject::Theirs(theirs), THEIR_ROOMS));
    }
    for size in sizes {
        columns.extend(column(&Subject::Ours, *size));
    }
    print(&columns);
}

/// Print columns as one table.
fn print(columns: &[Vec<Cell>]) {
    let Some(first) = columns.first() else { return };
    for at in 0..first.len() {
        let cells: Vec<&str> = columns.iter().map(|column| column[at].1.as_str()).collect();
        println!("| {} | {} |", first[at].0, cells.join(" | "));
        if at == 0 {
            println!("|{}", " --- |".repeat(columns.len() + 1));
        }
    }
}

/// What a row is about, and what came out.
type Cell = (&'static str, String);

fn column(subject: &Subject, rooms: usize) -> Option<Vec<Cell>> {
    let server = LiveKitServer::start("rooms")?;
    let worker = Worker::start(subject, &server, rooms);
    let mut people = People::start(&server.url());
    people.order(&format!("join {rooms}"));
    let mut foreign = if rooms > 10 { Foreign::join(&server) } else { Vec::new() };
    std::thread::sleep(SETTLE);
    let before = worker.process.memory();

    eprintln!("{}: {rooms} rooms", subject.name());
    let first = rooms.min(ONE_AT_A_TIME);
    let came = people.order(&format!("agents {AGENT} {first} 1"));
    let rest = (rooms > first).then(|| people.order(&format!("agents {AGENT} {} {AT_ONCE}", rooms - first)));
    foreign.iter_mut().for_each(|foreign| foreign.meets());
    std::thread::sleep(SETTLE);
    let joined = worker.process.memory();
    let all = rooms + foreign.len();
    let descriptors = worker.process.descriptors();
    let idle = worker.busy(|| std::thread::sleep(IDLE));
    let mut talk = Value::Null;
    let texts = worker.busy(|| talk = people.talk(TALK));
    let talked = worker.process.memory();
    foreign.iter_mut().for_each(|foreign| foreign.talks());
    let foreign = foreign.into_iter().map(Foreign::leaves).collect::<Vec<_>>();
    people.leave();
    let own = worker.joins();
    let ends = worker.stop();

    let in_rest = |rest: &Value| format!("{}, {}", times(rest), in_time(rest, "agents"));
    Some(vec![
        ("", format!("{}, {rooms} rooms", subject.name())),
        ("agent there after its dispatch, one at a time", times(&came)),
        ("agents there within a minute", in_time(&came, "agents")),
        ("the others, 4 at once", rest.as_ref().map_or("–".into(), in_rest)),
        ("from `connect` to open data channels, as our worker tells it", own),
        (
            "memory before, resident / proportional",
            format!("{} / {}", size(before.resident), size(before.proportional)),
        ),
        ("memory of a room, resident / proportional", a_room(before, joined, all)),
        ("the same after the texts", a_room(before, talked, all)),
        ("descriptors with all rooms", descriptors.to_string()),
        ("CPU of an idle room", percent(idle, all)),
        ("CPU of a room with a text every 2 s", percent(texts, all)),
        ("echo of a text", times(&talk)),
        ("echoes in time; texts that came late or twice", format!("{}; {}", in_time(&talk, "said"), talk["others"])),
        ("reconnections and failures of the people", format!("{}, {}", talk["reconnects"], talk["failures"])),
        ("foreign people", if foreign.is_empty() { "–".into() } else { foreign.join(", ") }),
        ("the end of the worker", ends),
    ])
}

fn soak(rooms: usize, minutes: usize) {
    let Some(server) = LiveKitServer::start("soak") else { return };
    let worker = Worker::start(&Subject::Ours, &server, rooms);
    std::thread::sleep(SETTLE);
    let (memory, descriptors) = (worker.process.memory(), worker.process.descriptors());
    println!("start: {}, {descriptors} descriptors", size(memory.resident));
    let mut people = People::start(&server.url());
    people.order(&format!("join {rooms}"));
    println!("agents: {}", people.order(&format!("agents {AGENT} {rooms} {AT_ONCE}")));
    let (mut kept, mut faults) = (Vec::new(), Vec::new());
    for minute in 1..=minutes {
        let mut talk = Value::Null;
        let cpu = worker.busy(|| talk = people.talk(Duration::from_secs(60)));
        let memory = worker.process.memory();
        kept.push(memory.anonymous);
        println!(
            "minute {minute}: {} of {} echoes, p99 {} ms, {} late or twice, {} reconnections, failures {}; {} resident, {} of it in no file, \
             {} descriptors, {cpu:.1} % of a core",
            talk["in_time"],
            talk["said"],
            talk["p99_ms"],
            talk["others"],
            talk["reconnects"],
            talk["failures"],
            size(memory.resident),
            size(memory.anonymous),
            worker.process.descriptors(),
        );
        if talk["in_time"] != talk["said"] || talk["others"] != 0 {
            faults.push(format!("echoes are missing or came twice in minute {minute}"));
        }
    }
    people.leave();
    let began = Instant::now();
    let mut left = worker.process.descriptors();
    while left > descriptors && began.elapsed() < OVER_WITHIN {
        std::thread::sleep(Duration::from_secs(1));
        left = worker.process.descriptors();
    }
    println!("end: {}, {left} descriptors", size(worker.process.memory().resident));
    if left > descriptors {
        faults.push(format!("{left} descriptors are left of {descriptors} at the start"));
    }
    if has_grown(&kept) {
        faults.push("the memory grows".into());
    }
    println!("the end of the worker: {}", worker.stop());
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Whether the memory has grown by more than [`GROWTH_MAX`], from its size in each minute. The growth is printed. Too few minutes show none.
fn has_grown(kept: &[u64]) -> bool {
    if kept.len() <= 2 * COMPARED {
        return false;
    }
    let mean = |of: &[u64]| of.iter().sum::<u64>() as f64 / of.len() as f64;
    let growth = mean(&kept[kept.len() - COMPARED..]) / mean(&kept[1..=COMPARED]) - 1.0;
    println!("growth of the memory: {:.1} %", growth * 100.0);
    growth > GROWTH_MAX
}

/// A worker that has registered.
struct Worker {
    process: Process,
    /// What ours publishes.
    events: tempfile::NamedTempFile,
}

impl Worker {
    fn start(subject: &Subject, server: &LiveKitServer, rooms: usize) -> Self {
        let events = tempfile::NamedTempFile::new().unwrap();
        Self::register(subject, AGENT, subject.command(rooms, events.path()), server, events)
    }

    /// Run this command, until the server knows its agent.
    fn register(
        subject: &Subject,
        agent: &str,
        mut command: Command,
        server: &LiveKitServer,
        events: tempfile::NamedTempFile,
    ) -> Self {
        let log = std::fs::File::create(target_dir().join(format!("rooms-{}.log", subject.name()))).unwrap();
        command.env("LIVEKIT_URL", server.url()).env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = Process::new(command.spawn().unwrap());
        server.says(&format!("\"agentName\": \"{agent}\""), 1);
        Self { process, events }
    }

    /// The times of its joins.
    fn joins(&self) -> String {
        let text = std::fs::read_to_string(self.events.path()).unwrap();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut times: Vec<u64> = events
            .filter(|event| event["event"] == "room.joined")
            .filter_map(|event| event["took_ms"].as_u64())
            .collect();
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1));
        match (at(50), at(99), at(100)) {
            (Some(half), Some(most), Some(longest)) => format!("p50 {half} ms, p99 {most} ms, longest {longest} ms"),
            _ => "–".into(),
        }
    }

    /// The share of a core that it takes meanwhile, in percent.
    fn busy(&self, meanwhile: impl FnOnce()) -> f64 {
        let (began, cpu) = (Instant::now(), self.process.cpu());
        meanwhile();
        (self.process.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0
    }

    /// How long it took to end.
    fn stop(mut self) -> String {
        let began = Instant::now();
        self.process.ask_to_end();
        while !self.process.has_ended() {
            if began.elapsed() > STOP_WITHIN {
                return format!("killed after {} s", STOP_WITHIN.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        format!("after {:.1} s", began.elapsed().as_secs_f64())
    }
}

impl Subject {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours => "wasm-worker",
            Self::Theirs(_) => "livekit-agents",
        }
    }

    fn command(&self, rooms: usize, events: &Path) -> Command {
        match self {
            Self::Ours => {
                let mut command = ours(&guest("room_echo"), AGENT, rooms);
                command.arg("--events").arg(events);
                command
            }
            Self::Theirs(dir) => theirs(dir, "echo.py"),
        }
    }
}

/// Our worker with this agent. The file of an agent is its component or its directory.
fn ours(file: &Path, agent: &str, rooms: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-worker"));
    command.arg("run").arg(file).args(["--agent-name", agent, "--load-threshold", "none"]);
    command.args(["--http", "off", "--max-jobs", &(rooms + 10).to_string()]);
    command.env("WASM_WORKER_CACHE_DIR", target_dir().join("rooms-cache"));
    command
}

/// A worker of livekit-agents.
fn theirs(dir: &Path, script: &str) -> Command {
    let mut command = Command::new(dir.join(PYTHON));
    command.arg(dir.join(script)).arg("start");
    command
}

fn times(told: &Value) -> String {
    format!("p50 {} ms, p99 {} ms", told["p50_ms"], told["p99_ms"])
}

fn in_time(told: &Value, what: &str) -> String {
    format!("{} of {}", told["in_time"], told[what])
}

fn size(kilobytes: u64) -> String {
    format!("{:.1} MiB", kilobytes as f64 / 1_024.0)
}

fn a_room(before: Memory, after: Memory, rooms: usize) -> String {
    let each = |before: u64, after: u64| format!("{:.0} KiB", after.saturating_sub(before) as f64 / rooms as f64);
    format!("{} / {}", each(before.resident, after.resident), each(before.proportional, after.proportional))
}

fn percent(of_a_core: f64, rooms: usize) -> String {
    format!("{:.4} % of a core", of_a_core / rooms as f64)
}

//! Rooms of our own: `wasm-worker run` without a LiveKit server serves the rooms, dispatches and runs the agents in one process. In each
//! room are three people, by our own crate in a process of their own, and an agent that echoes texts and sound
//! (`tests/guests/parrot.rs`).
//!
//! Everybody says a text every two seconds. A message has come when another person has its whole text, and an answer when the person who
//! spoke has the agent's echo. The same follows with sound in a fifth of the rooms: one person speaks, the agent repeats it, and everybody
//! hears everybody.
//!
//! CPU and memory of the worker are those of dispatcher, rooms and agents together; those of the people are apart.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::in_rooms::People;
use crate::process::{Memory, Process, cpu};
use crate::steady_sound::sentence;
use crate::support::dispatcher::{ask, everything};
use crate::support::harness::{eventually, guest, target_dir};
use crate::{AT_ONCE, Cell, IDLE, SAY_EVERY, SETTLE, Worker, a_room, in_time, percent, print, size, times};

pub(crate) const ROOMS: usize = 100;
const AGENT: &str = "parrot";
/// People in a room beside the one who speaks where there is sound.
const OTHERS: usize = 2;
/// One of so many rooms has sound.
const SOUND_IN_ONE_OF: usize = 5;
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(30);

/// Print the rooms with texts alone, and with sound in some of them.
pub(crate) fn table(rooms: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (worker, url) = start(rooms, &dir.path().join("store.db"));
    std::thread::sleep(SETTLE);
    let mut played = Played { before: worker.process.memory(), worker, people: People::start(&url), rooms };
    played.people.order(&format!("join {rooms}"));
    played.people.order(&format!("others {OTHERS}"));
    let came = played.people.order(&format!("agents {AGENT} {rooms} {AT_ONCE}"));
    println!("agents there: {}, {}", in_time(&came, "agents"), times(&came));
    std::thread::sleep(SETTLE);
    println!("CPU of an idle room: {}", percent(played.worker.busy(|| std::thread::sleep(IDLE)), rooms));
    let columns = [0, rooms / SOUND_IN_ONE_OF].map(|with_sound| played.column(with_sound));
    print(&columns);
    played.people.leave();
    println!("the end of the worker: {}", played.worker.stop());
}

/// A worker with its dispatcher and so many rooms, and its URL.
fn start(rooms: usize, store: &Path) -> (Worker, String) {
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let log = std::fs::File::create(target_dir().join("rooms-own.log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-worker"));
    command.arg("run").arg(guest(AGENT)).args(["--listen", &listen, "--store"]).arg(store);
    command.args(["--load-threshold", "none", "--http", "off", "--max-jobs", &(rooms + 10).to_string()]);
    for name in ["LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"] {
        command.env_remove(name);
    }
    command.env("WASM_WORKER_CACHE_DIR", target_dir().join("rooms-cache"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let process = Process::new(command.spawn().unwrap());
    let url = format!("ws://{listen}");
    eventually("the dispatcher listens", || TcpStream::connect(&listen).ok());
    eventually("the worker registers", || {
        let answer = ask(&url, "GET", "/workers", "application/json", &everything(""), &[], "");
        answer.body["workers"].as_array().filter(|workers| !workers.is_empty()).map(|_| ())
    });
    (Worker { process, events: tempfile::NamedTempFile::new().unwrap() }, url)
}

/// A worker, and the people in its rooms.
struct Played {
    worker: Worker,
    people: People,
    rooms: usize,
    /// The memory of the worker without a room.
    before: Memory,
}

impl Played {
    fn column(&mut self, with_sound: usize) -> Vec<Cell> {
        let chat = |time: Duration| format!("chat {} {} {with_sound}", time.as_secs(), SAY_EVERY.as_millis());
        self.people.order(&chat(WARM_UP));
        let (id, mut told, mut of_people) = (self.people.id(), Value::Null, 0.0);
        let busy = self.worker.busy(|| {
            let (began, before) = (Instant::now(), cpu(id));
            told = self.people.order(&chat(MEASURED));
            of_people = (cpu(id) - before).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
        });
        let after = self.worker.process.memory();
        let title = if with_sound == 0 { "texts".into() } else { format!("texts, and sound in {with_sound} rooms") };
        let heard = if with_sound == 0 { "–".into() } else { sentence(&told["sound"]) };
        vec![
            ("", format!("{} rooms with {} people: {title}", self.rooms, OTHERS + 1)),
            ("a message from person to person", both(&told["messages"])),
            ("the answer of the agent", both(&told["answers"])),
            ("CPU of dispatcher, rooms and agents", format!("{busy:.1} % of a core")),
            ("the same, a room", percent(busy, self.rooms)),
            ("CPU of the people", format!("{of_people:.1} % of a core")),
            ("memory without rooms, resident / proportional", sizes(self.before)),
            ("memory of a room, resident / proportional", a_room(self.before, after, self.rooms)),
            ("what those who speak heard", heard),
            ("failures of the people", told["failures"].to_string()),
        ]
    }
}

fn both(told: &Value) -> String {
    format!("{}; {} came", times(told), in_time(told, "all"))
}

fn sizes(memory: Memory) -> String {
    format!("{} / {}", size(memory.resident), size(memory.proportional))
}

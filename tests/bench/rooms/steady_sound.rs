//! Whether sound keeps its time: rooms whose agents repeat what they hear (`tests/guests/sound.rs`), beside busy jobs of the same worker
//! (`neighbours`), and for a long time (`sound-soak`). The worker, the people and the LiveKit server share the machine.
//!
//! The people tell what came late, was made up or is missing at their ears. The worker's own metrics tell the frames that it sent late or
//! left out, and how late its packets went out.
//!
//! The busy jobs compute in steps of one length, with a pause that is chosen so that all of them together use [`BUSY_SHARE`] of the cores.

use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::in_rooms::People;
use crate::process::Memory;
use crate::support::harness::{Door, guest, target_dir};
use crate::support::livekit_server::LiveKitServer;
use crate::support::rooms::{delete_room, dispatch_with};
use crate::{AT_ONCE, Cell, SETTLE, Subject, Worker, has_grown, in_time, print, size};

pub(crate) const ROOMS: usize = 20;
const AGENT: &str = "sound";
const MODE: &str = "both";
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(60);
const LOOPS: usize = 2;
const BUSY: usize = 100;
/// The part of all cores that the busy jobs use together.
const BUSY_SHARE: f64 = 0.75;
/// Busy jobs that show what a step takes, with a pause of [`LEARN_PAUSE_MS`]. A step after a long pause takes longer than one after a
/// short pause, so theirs is about as long as that of the others.
const LEARN_FROM: usize = 30;
const LEARN_PAUSE_MS: f64 = 5.0;
const FRAME_S: f64 = 0.02;
/// The difference between the time that was heard and the time that passed.
const DRIFT_MAX_MS: f64 = 20.0;
/// The part of the time that is heard at least: the agents need a moment to begin.
const HEARD_MIN: f64 = 0.95;

/// Print the same rooms alone, beside busy jobs, and beside endless loops too.
pub(crate) fn neighbours(rooms: usize) {
    let Some(server) = LiveKitServer::start("rooms") else { return };
    let mut room = InRooms::start(&server, rooms);
    let mut columns = vec![room.column("alone")];
    let pause = room.pause_of_the_busy(&server);
    for number in 0..BUSY {
        dispatch_with(&server.url(), &format!("busy-{number}"), "burn", &format!("{pause:.0}"));
    }
    std::thread::sleep(SETTLE);
    columns.push(room.column(&format!("beside {BUSY} busy jobs")));
    for number in 0..LOOPS {
        dispatch_with(&server.url(), &format!("loop-{number}"), "spin", "");
    }
    std::thread::sleep(WARM_UP);
    columns.push(room.column(&format!("and {LOOPS} endless loops")));
    room.people.leave();
    println!("the end of the worker: {}", room.worker.stop());
    print(&columns);
}

/// Print each minute's memory of one long talk, and what was heard. It fails where the memory grows, or where the time of the sound and
/// that of the clock differ by more than [`DRIFT_MAX_MS`].
pub(crate) fn soak(rooms: usize, minutes: usize) {
    let Some(server) = LiveKitServer::start("rooms") else { return };
    let mut room = InRooms::start(&server, rooms);
    let seconds = minutes * 60;
    let (tell, told) = mpsc::channel();
    let (worker, people) = (&room.worker, &mut room.people);
    let mut kept = Vec::new();
    let heard: Value = std::thread::scope(|scope| {
        scope.spawn(move || tell.send(people.order(&format!("sound {seconds} {MODE}"))).unwrap());
        for minute in 1.. {
            let (mut heard, mut memory) = (None, Memory::default());
            let cpu = worker.busy(|| {
                heard = match told.recv_timeout(Duration::from_secs(60)) {
                    Ok(heard) => Some(heard),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => panic!("the people are gone"),
                };
                memory = worker.process.memory();
            });
            if let Some(heard) = heard {
                return heard;
            }
            kept.push(memory.anonymous);
            let [resident, anonymous] = [memory.resident, memory.anonymous].map(size);
            println!("minute {minute}: {resident} resident, {anonymous} of it in no file, {cpu:.1} % of a core");
        }
        unreachable!("the talk ends")
    });
    let sent = room.sent();
    room.people.leave();
    println!("the end of the worker: {}", room.worker.stop());
    println!("{}", sentence(&heard));
    println!("of {} frames the worker sent {} late or not at all", sent.packets, sent.late);
    let mut faults = Vec::new();
    if number(&heard, "heard_s") + number(&heard, "missing_s") < number(&heard, "most_s") * HEARD_MIN {
        faults.push("the people did not hear all the time".into());
    }
    if heard["failures"] != json!([]) {
        faults.push(format!("the people have failures: {}", heard["failures"]));
    }
    if number(&heard, "drift_ms") > DRIFT_MAX_MS {
        faults.push(format!("the clocks drift by {} ms", heard["drift_ms"]));
    }
    if has_grown(&kept) {
        faults.push("the memory grows".into());
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Rooms with agents that repeat what they hear.
struct InRooms {
    worker: Worker,
    people: People,
    rooms: usize,
    /// Where the worker serves its metrics.
    door: Door,
}

/// What the worker has told of the packets that it sent.
struct Sent {
    packets: f64,
    late: f64,
    /// Upper bounds of the lateness in seconds, each with the packets that were at most so late.
    lateness: Vec<(f64, f64)>,
}

impl InRooms {
    fn start(server: &LiveKitServer, rooms: usize) -> Self {
        let cache = target_dir().join("rooms-cache");
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-worker"));
        command.arg("run").args([guest("sound"), guest("burn"), guest("spin")]).args(["--load-threshold", "none"]);
        command.args(["--http", "127.0.0.1:0", "--unresponsive-timeout", "10m"]).env("WASM_WORKER_CACHE_DIR", &cache);
        let events = tempfile::NamedTempFile::new().unwrap();
        let worker = Worker::register(&Subject::Ours, AGENT, command, server, events);
        let door = Door::of(&cache, worker.process.id());
        let mut people = People::start(&server.url());
        people.order(&format!("join {rooms}"));
        std::thread::sleep(SETTLE);
        let came = people.order(&format!("agents {AGENT} {rooms} {AT_ONCE} {MODE}"));
        println!("agents there within a minute: {}", in_time(&came, "agents"));
        people.order(&format!("sound {} {MODE}", WARM_UP.as_secs()));
        Self { worker, people, rooms, door }
    }

    /// The pause in milliseconds with which the busy jobs together use [`BUSY_SHARE`] of the cores.
    fn pause_of_the_busy(&self, server: &LiveKitServer) -> f64 {
        let before = self.worker.busy(|| std::thread::sleep(SETTLE));
        for number in 0..LEARN_FROM {
            dispatch_with(&server.url(), &format!("learn-{number}"), "burn", &format!("{LEARN_PAUSE_MS:.0}"));
        }
        std::thread::sleep(WARM_UP);
        let with_them = self.worker.busy(|| std::thread::sleep(SETTLE));
        let each = (with_them - before) / 100.0 / LEARN_FROM as f64;
        let step_ms = LEARN_PAUSE_MS * each / (1.0 - each);
        let cores = std::thread::available_parallelism().unwrap().get() as f64;
        let pause = step_ms * (BUSY as f64 / (BUSY_SHARE * cores) - 1.0);
        assert!(each > 0.0 && each < 1.0 && pause >= 1.0, "{each} of a core each, {pause} ms");
        for number in 0..LEARN_FROM {
            delete_room(&server.url(), &format!("learn-{number}"));
        }
        println!("a step of a busy job takes {step_ms:.2} ms with all that belongs to it; the pause is {pause:.0} ms");
        pause
    }

    fn column(&mut self, title: &str) -> Vec<Cell> {
        let before = self.sent();
        let mut heard = Value::Null;
        let busy = self.worker.busy(|| heard = self.people.order(&format!("sound {} {MODE}", MEASURED.as_secs())));
        let now = self.sent();
        let a_minute = |frames: f64| format!("{:.2}", frames * 60.0 / MEASURED.as_secs_f64() / self.rooms as f64);
        let at_the_ear = number(&heard, "missing_s") + number(&heard, "concealed_s");
        vec![
            ("", format!("{} rooms {title}", self.rooms)),
            ("CPU of the worker", format!("{busy:.1} % of a core")),
            ("frames sent late or not at all, a minute and room", a_minute(now.late - before.late)),
            ("lateness of the packets, 99 of 100", format!("at most {} ms", now.since(&before).at_most(0.99) * 1e3)),
            ("frames made up or missing at the ear, a minute and room", a_minute(at_the_ear / FRAME_S)),
            ("what the people heard", sentence(&heard)),
        ]
    }

    fn sent(&self) -> Sent {
        let metrics = self.door.get("/metrics").1;
        let of_agent = format!("agent=\"{AGENT}\"");
        let lines = |name: &'static str| {
            let of_agent = of_agent.clone();
            metrics.lines().filter(move |line| line.starts_with(name) && line.contains(&of_agent))
        };
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        let bound = |line: &str| {
            let bound = line.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
            bound.parse().unwrap_or(f64::INFINITY)
        };
        Sent {
            packets: lines("wasm_worker_room_audio_packets_total{")
                .filter(|line| line.contains("sent"))
                .map(value)
                .sum(),
            late: lines("wasm_worker_room_audio_late_frames_total{").map(value).sum(),
            lateness: lines("wasm_worker_room_audio_lateness_seconds_bucket{")
                .map(|line| (bound(line), value(line)))
                .collect(),
        }
    }
}

impl Sent {
    fn since(&self, before: &Self) -> Self {
        let lateness = self.lateness.iter().zip(&before.lateness).map(|(now, before)| (now.0, now.1 - before.1));
        Self { packets: self.packets - before.packets, late: self.late - before.late, lateness: lateness.collect() }
    }

    /// The bound of the lateness of this part of the packets.
    fn at_most(&self, part: f64) -> f64 {
        let all = self.lateness.last().unwrap().1;
        assert!(all > 0.0, "no packet was sent");
        self.lateness.iter().find(|(_, packets)| *packets >= all * part).unwrap().0
    }
}

fn number(heard: &Value, what: &str) -> f64 {
    heard[what].as_f64().unwrap()
}

pub(crate) fn sentence(heard: &Value) -> String {
    let [sound, most, made_up, missing] =
        ["heard_s", "most_s", "concealed_s", "missing_s"].map(|what| number(heard, what));
    format!(
        "{sound:.1} of at most {most} s, {made_up:.2} s made up, {missing:.2} s missing; frames there after p50 {} ms, p99 {} ms, \
         longest {} ms; drift at most {} ms",
        heard["p50_ms"], heard["p99_ms"], heard["longest_ms"], heard["drift_ms"],
    )
}

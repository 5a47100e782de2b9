//! Rooms with sound: `tests/guests/sound.rs` and `tests/interop/livekit_agents/sound.py`, on the same LiveKit server and with the same
//! people. The agent hears a person (`in`), says a tone (`out`), or repeats what it hears (`both`), at 24 kHz.
//!
//! CPU and memory are those of the worker and all that it started, divided by the agents that came. The people are one process, and
//! what they say is encoded beforehand.

use std::time::Duration;

use serde_json::Value;

use crate::in_rooms::People;
use crate::support::harness::guest;
use crate::support::livekit_server::LiveKitServer;
use crate::support::toolchains::installed_python;
use crate::{AT_ONCE, Cell, SETTLE, Subject, Worker, a_room, in_time, ours, percent, print, size, theirs};

/// Rooms of ours, besides as many as livekit-agents has.
pub(crate) const ROOMS: usize = 30;
const AGENT: &str = "sound";
const MODES: [&str; 3] = ["in", "out", "both"];
const SIZES: [usize; 2] = [1, 10];
/// Agents of livekit-agents that come at once: each is a process that takes some seconds of a core to begin.
const THEIRS_AT_ONCE: usize = 1;
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);

/// Print a table for each of the three modes, or for one: of livekit-agents, as many rooms of ours, and so many of ours.
pub(crate) fn table(rooms: usize, only: Option<&str>) {
    assert!(only.is_none_or(|only| MODES.contains(&only)), "the modes are {MODES:?}");
    for mode in MODES.into_iter().filter(|mode| only.is_none_or(|only| only == *mode)) {
        let mut columns = Vec::new();
        if let Some(dir) = installed_python("livekit_agents") {
            let subject = Subject::Theirs(dir);
            columns.extend(SIZES.iter().filter_map(|rooms| column(&subject, *rooms, mode)));
        }
        columns.extend([1, 10, rooms].iter().filter_map(|rooms| column(&Subject::Ours, *rooms, mode)));
        print(&columns);
        println!();
    }
}

fn column(subject: &Subject, rooms: usize, mode: &str) -> Option<Vec<Cell>> {
    let server = LiveKitServer::start("rooms")?;
    let command = match subject {
        Subject::Ours => ours(&guest("sound"), AGENT, rooms),
        Subject::Theirs(dir) => theirs(dir, "sound.py"),
    };
    let events = tempfile::NamedTempFile::new().unwrap();
    let worker = Worker::register(subject, AGENT, command, &server, events);
    let mut people = People::start(&server.url());
    people.order(&format!("join {rooms}"));
    std::thread::sleep(SETTLE);
    let before = worker.process.memory();
    eprintln!("{}: {rooms} rooms, {mode}", subject.name());
    let at_once = if matches!(subject, Subject::Ours) { AT_ONCE } else { THEIRS_AT_ONCE };
    let came = people.order(&format!("agents {AGENT} {rooms} {at_once} {mode}"));
    people.order(&format!("sound {} {mode}", WARM_UP.as_secs()));
    let mut heard = Value::Null;
    let busy = worker.busy(|| heard = people.order(&format!("sound {} {mode}", MEASURED.as_secs())));
    let after = worker.process.memory();
    let there = heard["agents"].as_u64().map_or(0, |there| usize::try_from(there).unwrap());
    assert!(there > 0, "no agent came");
    people.leave();
    worker.stop();
    let of_sound = |what: &str| format!("{:.1} s", heard[what].as_f64().unwrap_or_default());
    let heard = if mode == "in" {
        "–".into()
    } else {
        let late = format!("p50 {} ms, p99 {} ms", heard["p50_ms"], heard["p99_ms"]);
        format!(
            "{} of at most {} s, {} made up, {} missing, frames there after {late}",
            of_sound("heard_s"),
            heard["most_s"],
            of_sound("concealed_s"),
            of_sound("missing_s"),
        )
    };
    Some(vec![
        ("", format!("{}, {rooms} rooms, {mode}", subject.name())),
        ("agents there within a minute", in_time(&came, "agents")),
        ("agents that came by its end", there.to_string()),
        ("CPU of a room", percent(busy, there)),
        (
            "memory before, resident / proportional",
            format!("{} / {}", size(before.resident), size(before.proportional)),
        ),
        ("memory of a room, resident / proportional", a_room(before, after, there)),
        ("what the people heard", heard),
    ])
}

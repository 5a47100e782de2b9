//! Conversations with a model in rooms: `examples/llm` and `tests/interop/livekit_agents/llm.py`, on the same LiveKit server, with the same
//! people, and with the same stand-in for a model.
//!
//! A person says a text every ten seconds. The answer has 40 tokens, streamed at 40 a second; it has come when the person has the whole
//! text. What a turn takes beyond the second of the stream is the share of the server, of the worker and of the agent.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::in_rooms::People;
use crate::process::Memory;
use crate::stand_in::{EVERY, Models, answer};
use crate::support::harness::root;
use crate::support::livekit_server::LiveKitServer;
use crate::support::toolchains::installed_python;
use crate::{
    AT_ONCE, Cell, ONE_AT_A_TIME, SETTLE, Subject, THEIR_ROOMS, Worker, a_room, in_time, ours, percent, print, size,
    theirs,
};

/// Rooms of ours, besides as many as livekit-agents has.
pub(crate) const ROOMS: usize = 100;
const AGENT: &str = "llm";
const IDEAL_MS: f64 = 1_000.0;
/// In which everybody has had a turn.
const WARM_UP: Duration = Duration::from_secs(20);
const TALK: Duration = Duration::from_secs(60);

/// Print the conversations of livekit-agents, as many of ours, and so many of ours.
pub(crate) fn table(rooms: usize) {
    let mut columns = Vec::new();
    if let Some(dir) = installed_python("livekit_agents") {
        columns.extend(column(&Subject::Theirs(dir), THEIR_ROOMS));
    }
    for rooms in [THEIR_ROOMS, rooms] {
        columns.extend(column(&Subject::Ours, rooms));
    }
    print(&columns);
}

fn column(subject: &Subject, rooms: usize) -> Option<Vec<Cell>> {
    let (server, models) = (LiveKitServer::start("rooms")?, Models::start());
    let events = tempfile::NamedTempFile::new().unwrap();
    let worker = Worker::register(subject, AGENT, command(subject, rooms, &models.address), &server, events);
    let mut people = People::start(&server.url());
    people.order(&format!("join {rooms}"));
    std::thread::sleep(SETTLE);
    let before = worker.process.memory();
    eprintln!("{}: {rooms} conversations", subject.name());
    let first = rooms.min(ONE_AT_A_TIME);
    let mut came = vec![people.order(&format!("agents {AGENT} {first} 1"))];
    if rooms > first {
        came.push(people.order(&format!("agents {AGENT} {} {AT_ONCE}", rooms - first)));
    }
    people.ask(WARM_UP, EVERY, &answer());
    let mut talk = Value::Null;
    let busy = worker.busy(|| talk = people.ask(TALK, EVERY, &answer()));
    let after = worker.process.memory();
    people.leave();
    worker.stop();
    Some(vec![
        ("", format!("{}, {rooms} rooms", subject.name())),
        (
            "agents there within a minute",
            came.iter().map(|came| in_time(came, "agents")).collect::<Vec<_>>().join(", "),
        ),
        ("turns answered in time", in_time(&talk, "said")),
        ("a turn, beyond 1 s", format!("p50 {}, p99 {}", beyond(&talk["p50_ms"]), beyond(&talk["p99_ms"]))),
        ("memory before, resident / proportional", sizes(before)),
        ("memory of a conversation, resident / proportional", a_room(before, after, rooms)),
        ("CPU of a conversation", percent(busy, rooms)),
        ("failures of the people", talk["failures"].to_string()),
    ])
}

fn command(subject: &Subject, rooms: usize, address: &str) -> Command {
    let url = format!("http://{address}/v1");
    match subject {
        Subject::Ours => {
            let mut command = ours(&root().join("examples/llm"), AGENT, rooms);
            // What the operator grants.
            command.args([
                "--allow-host",
                &format!("http://{address}"),
                "--setting",
                &format!("OPENAI_BASE_URL={url}"),
            ]);
            command.env("OPENAI_API_KEY", "no-key-is-needed");
            command
        }
        Subject::Theirs(dir) => {
            let mut command = theirs(dir, "llm.py");
            command.env("MODEL_URL", url);
            command
        }
    }
}

fn beyond(milliseconds: &Value) -> String {
    milliseconds.as_f64().map_or("–".into(), |taken| format!("{:.1} ms", taken - IDEAL_MS))
}

fn sizes(memory: Memory) -> String {
    format!("{} / {}", size(memory.resident), size(memory.proportional))
}

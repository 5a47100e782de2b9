//! People by LiveKit's own clients hear agents and are heard by them, in rooms of a LiveKit server and in our own.

use serde_json::{Value, json};

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::guest;
use crate::support::livekit_server::LiveKitServer;
use crate::support::people::{Client, Person, saw};
use crate::support::rooms::{RoomServer, RoomWorker, dispatch_with};

/// The least part of the power that is where it belongs.
const SHARE_MIN: f64 = 0.95;
/// Tries until this is so: a browser that gets no time loses sound.
const TRIES: usize = 30;
/// Longer than that.
const SPEAKS_MS: u32 = 180_000;

/// Hear somebody until the tone is what is heard.
#[track_caller]
fn hears(person: &mut Person, who: &str, hz: u32) {
    let mut heard = Vec::new();
    for _ in 0..TRIES {
        person.order(&json!({ "do": "hear", "who": who, "hz": hz, "ms": 2_000 }));
        let sound = person.sees("sound", |line| saw(line, "sound"));
        if sound["share"].as_f64() >= Some(SHARE_MIN) && sound["loud_ms"].as_f64() > Some(1_000.0) {
            return;
        }
        heard.push(sound);
    }
    panic!("{who} is not heard with {hz} Hz: {heard:#?}");
}

/// Speak until the agent tells that it hears the tone.
#[track_caller]
fn is_heard(person: &mut Person) {
    person.order(&json!({ "do": "speak", "hz": 440, "ms": SPEAKS_MS }));
    let is_share = |line: &Value| line["text"].as_str().and_then(|text| text.parse::<f64>().ok());
    person.sees("word that the tone is heard", |line| saw(line, "text") && is_share(line) >= Some(SHARE_MIN));
}

fn meets(server: &RoomServer, client: Client, room: &str, mode: &str) -> Option<(Person, RoomWorker, String)> {
    let mut person = server.person(client, room)?;
    let worker = RoomWorker::behind(&server.url(), "sound", &guest("sound"));
    person.sees("room", |line| saw(line, "connected"));
    dispatch_with(&server.url(), room, "sound", mode);
    let agent = person.sees("agent", |line| saw(line, "joined") && line["kind"] == "agent");
    Some((person, worker, agent["who"].as_str().unwrap().to_owned()))
}

/// A person hears the agent's tone, and another agent the person's.
fn converse(server: &RoomServer, client: Client) {
    let room = format!("sound-of-{}", client.name());
    let Some((mut person, worker, agent)) = meets(server, client, &room, "out") else { return };
    hears(&mut person, &agent, 660);
    // Beside it, one that hears.
    dispatch_with(&server.url(), &room, "sound", "in");
    is_heard(&mut person);
    person.leaves_while_it_speaks();
    // Its agents stay.
    drop(worker);
}

/// What a person says comes back to it.
fn echo(server: &RoomServer, client: Client) {
    let room = format!("echo-of-{}", client.name());
    let Some((mut person, worker, agent)) = meets(server, client, &room, "both") else { return };
    person.order(&json!({ "do": "speak", "hz": 440, "ms": SPEAKS_MS }));
    hears(&mut person, &agent, 440);
    person.leaves_while_it_speaks();
    drop(worker);
}

fn in_livekit(clients: &[Client]) {
    let Some(server) = LiveKitServer::start("audio") else { return };
    let server = RoomServer::LiveKit(server);
    for client in clients {
        converse(&server, *client);
        echo(&server, *client);
    }
}

fn in_own(client: Client) {
    let server = RoomServer::Own(Dispatcher::start(&[]));
    converse(&server, client);
    echo(&server, client);
}

#[test]
fn people_and_agents_hear_each_other_in_rooms_of_livekit() {
    in_livekit(&[Client::Python, Client::Node, Client::Browser]);
}

#[test]
fn person_by_python_and_agents_hear_each_other_in_own_rooms() {
    in_own(Client::Python);
}

#[test]
fn person_by_node_and_agents_hear_each_other_in_own_rooms() {
    in_own(Client::Node);
}

#[test]
fn person_in_a_browser_and_agents_hear_each_other_in_own_rooms() {
    in_own(Client::Browser);
}

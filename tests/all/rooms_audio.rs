//! People by LiveKit's own clients hear agents and are heard by them, in rooms of a LiveKit server and in our own.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{guest, pause};
use crate::support::livekit_server::{LiveKitServer, Ports};
use crate::support::people::{Client, Person, SHARE_MIN, saw};
use crate::support::room_network::RoomNetwork;
use crate::support::rooms::{RoomServer, RoomWorker, delete_room, dispatch_with};

/// Longer than any of these tests.
const SPEAKS_MS: u32 = 600_000;
/// In which a link that was cut is there again.
const RESUMES_IN: Duration = Duration::from_secs(1);
/// How long the datagrams of the agent are lost: longer than a peer connection waits for them.
const LOST_FOR: Duration = Duration::from_secs(12);

/// A tone is heard clearly for so long.
const CLEAR_MS: u32 = 2_000;

/// Speak until the agent tells that it hears the tone.
#[track_caller]
fn is_heard(person: &mut Person) {
    person.speaks(440, SPEAKS_MS);
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
    person.hears(&agent, 660, CLEAR_MS);
    // Beside it, one that hears.
    dispatch_with(&server.url(), &room, "sound", "in");
    is_heard(&mut person);
    person.leaves();
    // Its agents stay.
    drop(worker);
}

/// What a person says comes back to it.
fn echo(server: &RoomServer, client: Client) {
    let room = format!("echo-of-{}", client.name());
    let Some((mut person, worker, agent)) = meets(server, client, &room, "both") else { return };
    person.speaks(440, SPEAKS_MS);
    person.hears(&agent, 440, CLEAR_MS);
    person.leaves();
    drop(worker);
}

/// What a person says comes back to it, also after the agent's link is cut, after its datagrams are lost, and after the server restarts,
/// where both join again.
fn after_losses(server: &mut RoomServer, network: &RoomNetwork, client: Client) {
    let room = format!("losses-of-{}", client.name());
    let Some(mut person) = server.person(client, &room) else { return };
    let worker = RoomWorker::behind(&network.url, "sound", &guest("sound"));
    person.sees("room", |line| saw(line, "connected"));
    dispatch_with(&server.url(), &room, "sound", "both");
    let agent = person.sees("agent", |line| saw(line, "joined") && line["kind"] == "agent");
    let agent = agent["who"].as_str().unwrap().to_owned();
    person.speaks(440, SPEAKS_MS);
    person.hears(&agent, 440, CLEAR_MS);
    network.cut_links();
    pause(RESUMES_IN);
    person.hears(&agent, 440, CLEAR_MS);
    network.cut_udp(true);
    pause(LOST_FOR);
    network.cut_udp(false);
    person.hears(&agent, 440, CLEAR_MS);
    server.restarts();
    person.hears(&agent, 440, CLEAR_MS);
    delete_room(&server.url(), &room);
    let left = worker.publishes("room.left", 1).pop().unwrap();
    assert!(left["resumes"].as_u64() >= Some(1) && left["rejoins"].as_u64() >= Some(1), "{left}");
}

/// Times that a person cuts the agent short.
const CUTS: usize = 3;
/// Longest time from a clear to silence at the listener: what is on its way, and in the buffer of the client. The room's own part, 100 ms at
/// most, is a promise of its own, without a machine that is busy.
const SILENT_WITHIN_MS: f64 = 1_000.0;
/// Largest difference between what the agent is told that was played and what the listener heard. A client that gets no time makes up
/// sound, or leaves some out.
const POSITION_OFF_MS: f64 = 300.0;

/// A person cuts the agent short, who is told where it was. The clocks are those of one machine.
#[expect(clippy::print_stderr, reason = "the figures are what is looked for")]
fn cut_short(server: &RoomServer) {
    let client = Client::Python;
    let Some((mut person, worker, agent)) = meets(server, client, "cut-short", "cut") else { return };
    let said = |line: &Value, what: &str| line["text"].as_str().is_some_and(|text| text.starts_with(what));
    person.sees("ready agent", |line| saw(line, "text") && said(line, "ready"));
    let say = |person: &mut Person| person.order(&json!({ "do": "text", "topic": "lk.chat", "text": "x" }));
    let (mut figures, mut before) = (Vec::new(), 0.0);
    for _ in 0..CUTS {
        person.order(&json!({ "do": "hear", "who": agent, "hz": 660, "ms": 8_000 }));
        pause(Duration::from_millis(500));
        say(&mut person);
        pause(Duration::from_secs(3));
        say(&mut person);
        let is_sound = |line: &Value| saw(line, "sound");
        let is_cut = |line: &Value| saw(line, "text") && said(line, "cut");
        let lines = person.until("cut and sound", |lines| lines.iter().any(is_sound) && lines.iter().any(is_cut));
        let (sound, cut) = (lines.iter().find(|line| is_sound(line)).unwrap(), lines.iter().find(|line| is_cut(line)));
        let numbers = cut.unwrap()["text"].as_str().unwrap().split(' ').skip(1);
        let [at, played] = numbers.map(|number| number.parse().unwrap()).collect::<Vec<f64>>()[..] else {
            panic!("{cut:?}")
        };
        let number = |name: &str| sound[name].as_f64().unwrap_or_else(|| panic!("nothing was heard: {sound}"));
        figures.push((number("last_loud_at") - at, number("loud_ms") - (played - before)));
        before = played;
    }
    for (silent_after, off) in &figures {
        eprintln!("silence {silent_after:.0} ms after the clear; heard {off:+.1} ms more than the position says");
    }
    let [silent_after, off] = [0, 1].map(|which| {
        let mut all: Vec<f64> =
            figures.iter().map(|(silent, off)| if which == 0 { *silent } else { off.abs() }).collect();
        all.sort_by(f64::total_cmp);
        all[CUTS / 2]
    });
    assert!((-POSITION_OFF_MS..=SILENT_WITHIN_MS).contains(&silent_after) && off <= POSITION_OFF_MS, "{figures:?}");
    person.leaves();
    drop(worker);
}

#[test]
fn agent_that_is_cut_short_falls_silent_and_knows_what_was_heard_in_own_rooms() {
    cut_short(&RoomServer::Own(Dispatcher::start(&[])));
}

#[test]
fn agent_that_is_cut_short_falls_silent_and_knows_what_was_heard_in_rooms_of_livekit() {
    let Some(server) = LiveKitServer::start("audio") else { return };
    cut_short(&RoomServer::LiveKit(server));
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

#[test]
fn people_and_agents_hear_each_other_after_losses_in_rooms_of_livekit() {
    let Some(server) = LiveKitServer::start("audio after losses") else { return };
    let network = RoomNetwork::to(&server);
    let mut server = RoomServer::LiveKit(server);
    for client in [Client::Python, Client::Node, Client::Browser] {
        after_losses(&mut server, &network, client);
    }
}

fn after_losses_in_own(client: Client) {
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dispatcher = Dispatcher::start(&["--rtc-port", udp.to_string().leak()]);
    let http = dispatcher.url.rsplit(':').next().unwrap().parse().unwrap();
    // Rooms of our own have no peer connections over TCP.
    let network = RoomNetwork::between(Ports { http, udp, tcp: 0 });
    after_losses(&mut RoomServer::Own(dispatcher), &network, client);
}

#[test]
fn person_by_python_and_agent_hear_each_other_after_losses_in_own_rooms() {
    after_losses_in_own(Client::Python);
}

#[test]
fn person_by_node_and_agent_hear_each_other_after_losses_in_own_rooms() {
    after_losses_in_own(Client::Node);
}

#[test]
fn person_in_a_browser_and_agent_hear_each_other_after_losses_in_own_rooms() {
    after_losses_in_own(Client::Browser);
}

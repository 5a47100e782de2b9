//! People by LiveKit's own clients talk with the agent of `examples/chat`, in rooms of a LiveKit server and in our own.

use serde_json::{Value, json};

use crate::support::dispatcher::Dispatcher;
use crate::support::livekit_server::LiveKitServer;
use crate::support::people::{Client, Person, saw};
use crate::support::rooms::RoomServer;

const CHAT: &str = "lk.chat";
const TRANSCRIPTION: &str = "lk.transcription";
const STATE: &str = "lk.agent.state";

fn count(lines: &[Value], what: &str) -> usize {
    lines.iter().filter(|line| saw(line, what)).count()
}

/// The states of the agent that these lines tell.
fn states(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter(|line| saw(line, "attributes")).filter_map(|line| line["changed"][STATE].as_str()).collect()
}

fn say(person: &mut Person, text: &str) {
    person.order(&json!({ "do": "text", "topic": CHAT, "text": text }));
}

fn call(person: &mut Person, agent: &str, method: &str, payload: &str) -> Value {
    person.order(&json!({ "do": "call", "to": agent, "method": method, "payload": payload }));
    person.sees("answer of the agent", |line| saw(line, "answer") || saw(line, "refusal"))
}

/// One conversation of a person with an agent, from the greeting to the farewell.
fn converse(server: &RoomServer, client: Client) {
    let room = format!("room-of-{}", client.name());
    let Some(mut person) = server.person(client, &room) else { return };
    let worker = server.worker("chat");
    person.sees("room", |line| saw(line, "connected") && line["who"] == client.name());
    server.dispatch(&room, "chat");
    let agent = meets(&mut person, client);
    calls(&mut person, &agent);
    gets_an_answer_in_parts(&mut person, &agent);
    interrupts(&mut person);
    exchanges_files(&mut person, &agent);

    say(&mut person, "bye");
    // Texts and departures come by different ways.
    let lines = person.until("farewell", |lines| count(lines, "left") == 1 && count(lines, "text") == 1);
    let farewell = lines.iter().find(|line| saw(line, "text")).unwrap();
    assert_eq!((&farewell["text"], &farewell["who"]), (&json!("Goodbye."), &json!(agent)));
    let left = lines.iter().find(|line| saw(line, "left")).unwrap();
    assert_eq!(left["who"], agent);
    // The client for browsers tells no reason.
    assert!(left["reason"].is_null() || left["reason"] == "CLIENT_INITIATED", "{left}");
    let [closed] = &worker.publishes("job.closed", 1)[..] else { panic!("one job") };
    assert_eq!(closed["verdict"]["code"], "completed", "{closed}");
    person.leaves();
    assert_eq!(worker.stop().exit, 0);
}

/// The agent's identity.
fn meets(person: &mut Person, client: Client) -> String {
    let is_greeting = |line: &Value| saw(line, "text") && line["text"].as_str().unwrap().starts_with("Hello");
    let lines = person.until("greeting", |lines| count(lines, "joined") == 1 && lines.iter().any(is_greeting));
    let joined = lines.iter().find(|line| saw(line, "joined")).unwrap();
    assert_eq!(joined["kind"], "agent", "{joined}");
    let agent = joined["who"].as_str().unwrap().to_owned();
    let greeting = lines.iter().find(|line| is_greeting(line)).unwrap();
    assert_eq!(greeting["text"], format!("Hello, {}. I repeat what you say.", client.name()));
    assert_eq!((&greeting["who"], &greeting["topic"]), (&json!(agent), &json!(TRANSCRIPTION)));
    assert_eq!(greeting["attributes"]["lk.transcription_final"], "true", "{greeting}");
    agent
}

/// The agent says a word every 300 ms afterwards, so that even on a slow machine it is heard while it speaks.
fn calls(person: &mut Person, agent: &str) {
    assert_eq!(call(person, agent, "set_pace", "300")["payload"], "40");
    assert_eq!(call(person, agent, "set_pace", "300")["payload"], "300");
    let refusal = call(person, agent, "set_pace", "soon");
    let message = "want 0 to 2000 milliseconds, got `soon`";
    assert_eq!((&refusal["code"], &refusal["message"]), (&json!(1), &json!(message)));
    assert_eq!(call(person, agent, "no-such-method", "")["code"], 1_400);
}

fn gets_an_answer_in_parts(person: &mut Person, agent: &str) {
    say(person, "one two three four");
    // States and texts come by different ways, in any order.
    let is_complete = |lines: &[Value]| count(lines, "text") == 1 && states(lines).last() == Some(&"listening");
    let lines = person.until("answer", is_complete);
    let text = lines.iter().find(|line| saw(line, "text")).unwrap();
    assert_eq!((&text["text"], &text["who"]), (&json!("You said: one two three four"), &json!(agent)));
    let parts: Vec<&Value> = lines.iter().filter(|line| saw(line, "part")).collect();
    assert!(parts.iter().all(|part| part["stream"] == text["stream"]), "{parts:#?}");
    assert!(parts.len() > 1, "{parts:#?}");
    let speaking = lines.iter().position(|line| line["changed"][STATE] == "speaking").expect("it speaks");
    let last = lines.iter().rposition(|line| saw(line, "part")).unwrap();
    assert!(speaking < last, "it is shown as speaking while it does: {lines:#?}");
}

fn interrupts(person: &mut Person) {
    say(person, &"word ".repeat(400));
    person.until("first words", |lines| count(lines, "part") == 3);
    say(person, "no more");
    let lines = person.until("second answer", |lines| count(lines, "text") == 2);
    let texts: Vec<&Value> = lines.iter().filter(|line| saw(line, "text")).collect();
    let words = texts[0]["text"].as_str().unwrap().matches("word").count();
    assert!((1..400).contains(&words), "{}", texts[0]);
    // The client for Node tells no attributes of the end.
    let interrupted = &texts[0]["attributes"]["interrupted"];
    assert!(interrupted.is_null() || interrupted == "true", "{}", texts[0]);
    assert_eq!(texts[1]["text"], "You said: no more");
    assert_eq!(texts[1]["attributes"]["interrupted"], Value::Null);
    assert_ne!(texts[0]["stream"], texts[1]["stream"]);
}

fn exchanges_files(person: &mut Person, agent: &str) {
    for bytes in [0, 300_000] {
        let name = format!("{bytes}.bin");
        person.order(&json!({ "do": "file", "name": name, "bytes": bytes }));
        let is_complete = |lines: &[Value]| count(lines, "sent-file") == 1 && count(lines, "file") == 1;
        let lines = person.until("file", is_complete);
        let the = |what: &str| lines.iter().find(|line| saw(line, what)).unwrap();
        let (sent, called, got) = (the("sent-file"), the("call"), the("file"));
        assert_eq!((&called["method"], &called["payload"]), (&json!("accept_file"), &json!(name)));
        assert_eq!((&got["who"], &got["name"], &got["bytes"]), (&json!(agent), &json!(name), &json!(bytes)));
        assert_eq!(got["sha256"], sent["sha256"]);
    }
}

fn on_a_livekit_server(client: Client) {
    let Some(server) = LiveKitServer::start("people in rooms of a LiveKit server") else { return };
    converse(&RoomServer::LiveKit(server), client);
}

fn in_our_own_room(client: Client) {
    converse(&RoomServer::Own(Dispatcher::start(&[])), client);
}

#[test]
fn python_client_talks_with_an_agent_on_a_livekit_server() {
    on_a_livekit_server(Client::Python);
}

#[test]
fn node_client_talks_with_an_agent_on_a_livekit_server() {
    on_a_livekit_server(Client::Node);
}

#[test]
fn browser_talks_with_an_agent_on_a_livekit_server() {
    on_a_livekit_server(Client::Browser);
}

#[test]
fn python_client_talks_with_an_agent_in_our_own_room() {
    in_our_own_room(Client::Python);
}

#[test]
fn node_client_talks_with_an_agent_in_our_own_room() {
    in_our_own_room(Client::Node);
}

#[test]
fn browser_talks_with_an_agent_in_our_own_room() {
    in_our_own_room(Client::Browser);
}

#[test]
fn python_client_with_two_peer_connections_talks_with_an_agent_in_our_own_room() {
    in_our_own_room(Client::PythonOfTwo);
}

#[test]
fn browser_with_two_peer_connections_talks_with_an_agent_in_our_own_room() {
    in_our_own_room(Client::BrowserOfTwo);
}

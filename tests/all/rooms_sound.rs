//! People who speak with each other by LiveKit's own clients, in rooms of a LiveKit server and in our own.

use serde_json::{Value, json};

use crate::support::dispatcher::Dispatcher;
use crate::support::livekit_server::LiveKitServer;
use crate::support::people::{Client, saw};
use crate::support::rooms::{RoomServer, token};

/// Longer than any of these tests.
const TONE_MS: u32 = 600_000;
/// A tone is heard clearly for so long.
const CLEAR_MS: u32 = 1_000;

/// Two people in one room speak at once, and hear each other.
fn converse(server: &RoomServer, ann_by: Client, bob_by: Client) {
    let join = |client: Client, identity: &str| client.joins(&server.url(), &token("sound", identity));
    let Some(mut ann) = join(ann_by, "ann") else { return };
    let Some(mut bob) = join(bob_by, "bob") else { return };
    ann.sees("bob", |line| saw(line, "joined") && line["who"] == "bob");
    bob.sees("ann", |line| saw(line, "joined") && line["who"] == "ann");
    // One is heard by whoever is there, the other one by whoever speaks already.
    ann.speaks(440, TONE_MS);
    bob.hears("ann", 440, CLEAR_MS);
    bob.speaks(660, TONE_MS);
    ann.hears("bob", 660, CLEAR_MS);
    bob.hears("ann", 440, CLEAR_MS);
    // Somebody who comes later hears both.
    if let Some(mut cid) = join(Client::Python, "cid") {
        cid.hears("ann", 440, CLEAR_MS);
        cid.hears("bob", 660, CLEAR_MS);
        cid.leaves();
    }
    ann.leaves();
    bob.sees("departure", |line| saw(line, "left") && line["who"] == "ann");
    bob.leaves();
}

fn on_a_livekit_server(ann_by: Client, bob_by: Client) {
    let Some(server) = LiveKitServer::start("sound in rooms of a LiveKit server") else { return };
    converse(&RoomServer::LiveKit(server), ann_by, bob_by);
}

fn in_our_own_room(ann_by: Client, bob_by: Client) {
    converse(&RoomServer::Own(Dispatcher::start(&[])), ann_by, bob_by);
}

#[test]
fn python_clients_hear_each_other_on_a_livekit_server() {
    on_a_livekit_server(Client::Python, Client::Python);
}

#[test]
fn browser_and_node_client_hear_each_other_on_a_livekit_server() {
    on_a_livekit_server(Client::Browser, Client::Node);
}

#[test]
fn python_clients_hear_each_other_in_our_own_room() {
    in_our_own_room(Client::Python, Client::Python);
}

#[test]
fn browser_and_node_client_hear_each_other_in_our_own_room() {
    in_our_own_room(Client::Browser, Client::Node);
}

#[test]
fn python_client_and_browser_hear_each_other_in_our_own_room() {
    in_our_own_room(Client::Python, Client::Browser);
}

#[test]
fn clients_with_two_peer_connections_hear_each_other_in_our_own_room() {
    in_our_own_room(Client::PythonOfTwo, Client::BrowserOfTwo);
}

#[test]
fn track_that_an_administrator_mutes_is_not_heard_in_our_own_room() {
    let dispatcher = Dispatcher::start(&[]);
    let join = |identity: &str| Client::Python.joins(&dispatcher.url, &token("sound", identity));
    let (Some(mut ann), Some(mut bob)) = (join("ann"), join("bob")) else { return };
    ann.speaks(440, TONE_MS);
    bob.hears("ann", 440, CLEAR_MS);
    let room = json!({ "room": "sound", "identity": "ann" });
    let call = |method: &str, request: &Value| {
        let answer = dispatcher.twirp(&format!("RoomService/{method}"), "sound", request);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    };
    let participant = call("GetParticipant", &room);
    let sid = participant["tracks"][0]["sid"].as_str().unwrap();
    let mute = json!({ "room": "sound", "identity": "ann", "trackSid": sid, "muted": true });
    assert_eq!(call("MutePublishedTrack", &mute)["track"]["muted"], true);
    ann.sees("mute", |line| saw(line, "muted"));
    bob.hears_nothing("ann");
}

#[test]
fn sound_comes_back_after_a_crash_of_the_dispatcher() {
    let mut dispatcher = Dispatcher::start(&[]);
    let join = |url: &str, identity: &str| Client::Python.joins(url, &token("sound", identity));
    let (Some(mut ann), Some(mut bob)) = (join(&dispatcher.url, "ann"), join(&dispatcher.url, "bob")) else { return };
    ann.speaks(440, TONE_MS);
    bob.speaks(660, TONE_MS);
    bob.hears("ann", 440, CLEAR_MS);
    ann.hears("bob", 660, CLEAR_MS);
    dispatcher.kill();
    dispatcher.start_again();
    for person in [&mut ann, &mut bob] {
        person.sees("return", |line| saw(line, "reconnected"));
    }
    bob.hears("ann", 440, CLEAR_MS);
    ann.hears("bob", 660, CLEAR_MS);
}

//! `wasm-worker rooms`: the rooms of a server, who is in them, and what is said there.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use crate::support::dispatcher::{Dispatcher, everything};
use crate::support::harness::eventually;
use crate::support::rooms::{RoomServer, dispatch};

/// The lines of a call with `--json`.
fn rows(dispatcher: &Dispatcher, words: &[&str]) -> Vec<Value> {
    let done = dispatcher.verb(words.iter().copied()).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    done.lines()
}

#[test]
fn room_is_listed_and_followed_by_one_whom_nobody_sees() {
    let dispatcher = Dispatcher::start(&[]);
    assert_eq!(dispatcher.verb(["rooms"]).done().stdout.trim(), "no rooms");
    let url = dispatcher.url.clone();
    let server = RoomServer::Own(dispatcher);
    let (chat, hello) = (server.worker("chat"), server.worker("hello"));
    let RoomServer::Own(dispatcher) = &server else { unreachable!() };
    dispatch(&url, "kitchen", "chat");
    let agent = eventually("the agent is there", || {
        let there = rows(dispatcher, &["rooms", "kitchen", "--json"]);
        there.into_iter().find(|one| one["state"] == "active")
    });
    assert_eq!((&agent["kind"], &agent["tracks"]), (&json!("agent"), &json!([])), "{agent}");
    let [room] = &rows(dispatcher, &["rooms", "--json"])[..] else { panic!("one room") };
    // LiveKit counts no agents.
    assert_eq!((&room["room"], &room["people"]), (&json!("kitchen"), &json!(0)), "{room}");

    let mut following = dispatcher.verb(["rooms", "kitchen", "--follow", "--json"]).start();
    let mut lines = BufReader::new(following.take_stdout()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next(), json!({ "event": "joined", "identity": agent["identity"], "kind": "agent" }));
    dispatch(&url, "kitchen", "hello");
    let other = next();
    assert_eq!(other["event"], "joined", "{other}");
    let (mut told, other) = (vec![next(), next()], &other["identity"]);
    // Texts and departures come by different ways.
    told.sort_by_key(|line| line["event"].to_string());
    assert_eq!(told[0], json!({ "event": "left", "identity": other, "reason": "client-initiated" }));
    let text = "hello from WebAssembly";
    assert_eq!(told[1], json!({ "event": "text", "identity": other, "topic": "lk.transcription", "text": text }));
    assert_eq!(rows(dispatcher, &["rooms", "kitchen", "--json"]).len(), 1, "who follows is not there");

    let table = dispatcher.verb(["rooms", "kitchen"]).done().stdout;
    assert!(table.starts_with("IDENTITY") && table.contains(agent["identity"].as_str().unwrap()), "{table}");
    let answer = dispatcher.ask(
        "POST",
        "/twirp/livekit.RoomService/DeleteRoom",
        "application/json",
        &everything("kitchen"),
        &[],
        &json!({ "room": "kitchen" }).to_string(),
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    let ended = std::iter::repeat_with(next).find(|line| line["event"] == "ended").unwrap();
    assert_eq!(ended["reason"], "room-deleted", "{ended}");
    assert_eq!(following.done().exit, 0);
    assert!(chat.stop().exit == 0 && hello.stop().exit == 0);
}

#[test]
fn room_that_is_not_there_is_not_made() {
    let dispatcher = Dispatcher::start(&[]);
    for words in [&["rooms", "attic"][..], &["rooms", "attic", "--follow"]] {
        let done = dispatcher.verb(words.iter().copied()).done();
        done.fails_with(2, &["there is no room `attic`", "`wasm-worker rooms`"]);
    }
    assert_eq!(rows(&dispatcher, &["rooms", "--json"]), Vec::<Value>::new());
    dispatcher.verb(["rooms", "--follow"]).done().fails_with(2, &["<ROOM>"]);
}

//! Rooms of a real LiveKit server, where `LIVEKIT_SERVER` names its binary, and a person by PyPI's `livekit`, where `LIVEKIT_PYTHON` names
//! a Python that has it. These tests are skipped without a failure elsewhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking"
)]

mod sound;
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command as Process;
use wasm_worker_core::room::command::{AgentState, Command, RpcError, SendOptions};
use wasm_worker_core::room::event::{Reason, RoomEvent};
use wasm_worker_core::room::moderation::Moderation;
use wasm_worker_core::room::people::{ParticipantKind, ParticipantState};
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};
use wasm_worker_core::secret::Secret;
use wasm_worker_room::io::{Rooms, RoomsSettings};

use support::{RealServer, Seen, run, token};

fn is_connected(event: &RoomEvent) -> bool {
    matches!(event, RoomEvent::Connected { .. })
}

fn is_over(event: &RoomEvent) -> bool {
    matches!(event, RoomEvent::Disconnected { .. })
}

fn reason_of(events: &[RoomEvent]) -> Reason {
    let Some(RoomEvent::Disconnected { reason, .. }) = events.last() else { panic!("{events:?}") };
    *reason
}

/// The names of the events that tell how the connection is.
fn connection(events: &[RoomEvent]) -> Vec<&'static str> {
    let name = |event: &RoomEvent| match event {
        RoomEvent::Connected { .. } => Some("connected"),
        RoomEvent::Reconnecting => Some("reconnecting"),
        RoomEvent::Disconnected { .. } => Some("disconnected"),
        _ => None,
    };
    events.iter().filter_map(name).collect()
}

#[test]
fn agent_meets_another_participant_with_attributes_and_states() {
    run(async |server: RealServer| {
        let agent = server.room("agent");
        agent.perform(Command::SetAttributes { id: 9, attributes: vec![("a".into(), "1".into())] });
        agent.perform(Command::SetAgentState { state: AgentState::Initializing });
        agent.perform(Command::Connect { id: 10 });
        let mut agent = agent;
        let events = agent.until(|event| *event == RoomEvent::Done(10)).await;
        let Some(RoomEvent::Connected { local, room }) = events.iter().find(|event| is_connected(event)) else {
            panic!("{events:?}");
        };
        assert_eq!((local.kind, local.state), (ParticipantKind::Agent, ParticipantState::Active));
        assert_eq!(room.name, "lobby");
        assert!(agent.room.statistics().joined_in.is_some());

        let (mut ann, events) = server.joined("ann").await;
        let RoomEvent::ParticipantJoined(other) = &events[0] else { panic!("{events:?}") };
        let attribute =
            |name: &str| other.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!((attribute("a"), attribute("lk.agent.state")), (Some("1"), Some("initializing")));
        agent.perform(Command::SetAgentState { state: AgentState::Thinking });
        agent.perform(Command::SetName { id: 11, name: "Bot".into() });
        agent.perform(Command::SetMetadata { id: 12, metadata: "m".into() });
        agent.until(|event| *event == RoomEvent::Done(12)).await;
        let is_complete = |event: &RoomEvent| {
            matches!(event, RoomEvent::ParticipantChanged { participant: agent, .. } if agent.name == "Bot"
                && agent.metadata == "m" && agent.attributes.contains(&("lk.agent.state".into(), "thinking".into())))
        };
        ann.until(is_complete).await;
        agent.perform(Command::Disconnect);
        let events = ann.until(|event| matches!(event, RoomEvent::ParticipantLeft { .. })).await;
        let Some(RoomEvent::ParticipantLeft { reason, .. }) = events.last() else { panic!() };
        assert_eq!(*reason, Reason::ClientInitiated);
    });
}

#[test]
fn texts_across_a_cut_of_the_link_arrive_once_and_in_order() {
    run(async |server: RealServer| {
        let (mut ann, _) = server.joined("ann").await;
        let (mut agent, _) = server.joined("agent").await;
        for number in 0..20 {
            agent.send_text(&number.to_string());
            if number == 7 {
                server.network.cut();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut told = Vec::new();
        let events = ann
            .until(|event| {
                if let RoomEvent::Text { text, .. } = event {
                    told.push(text.clone());
                }
                told.len() == 20
            })
            .await;
        assert_eq!(told, (0..20).map(|number: u32| number.to_string()).collect::<Vec<_>>());
        assert!(!events.iter().any(|event| matches!(event, RoomEvent::ParticipantLeft { .. })), "{events:?}");
        agent.until(is_connected).await;
        let statistics = agent.room.statistics();
        assert_eq!((statistics.resumes, statistics.rejoins), (1, 0));
        // The link works again in both directions.
        agent.perform(Command::SetMetadata { id: 99, metadata: "m".into() });
        agent.until(|event| *event == RoomEvent::Done(99)).await;
    });
}

#[test]
fn room_that_cannot_be_reached_for_a_while_is_resumed() {
    run(async |server: RealServer| {
        let (mut agent, _) = server.joined("agent").await;
        server.network.block(true);
        server.network.cut();
        agent.until(|event| *event == RoomEvent::Reconnecting).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.network.block(false);
        let events = agent.until(is_connected).await;
        assert_eq!(connection(&events), ["connected"]);
        let statistics = agent.room.statistics();
        assert_eq!((statistics.resumes, statistics.rejoins), (1, 0));
        assert!(statistics.failed_attempts >= 1);
    });
}

#[test]
fn server_that_restarts_is_joined_anew() {
    run(async |mut server: RealServer| {
        let (mut agent, events) = server.joined("agent").await;
        let sid_of = |events: &[RoomEvent]| {
            events.iter().find_map(|event| match event {
                RoomEvent::Connected { local, .. } => Some(local.sid.clone()),
                _ => None,
            })
        };
        let before = sid_of(&events);
        server.kill().await;
        agent.until(|event| *event == RoomEvent::Reconnecting).await;
        server.start_again();
        let events = agent.until(is_connected).await;
        assert_ne!(sid_of(&events), before);
        assert_eq!(agent.room.statistics().rejoins, 1);
        let id = agent.send_text("anew");
        agent.until(|event| *event == RoomEvent::Done(id)).await;
    });
}

#[test]
fn ends_have_the_reasons_of_the_server() {
    run(async |server: RealServer| {
        let (mut older, _) = server.joined("agent").await;
        let (mut agent, _) = server.joined("agent").await;
        assert_eq!(reason_of(&older.until(is_over).await), Reason::DuplicateIdentity);
        let remove = Moderation::RemoveParticipant { identity: "agent".into() };
        server.moderate(&remove).await.unwrap();
        let events = agent.until(is_over).await;
        assert_eq!((reason_of(&events), connection(&events)), (Reason::ParticipantRemoved, vec!["disconnected"]));
        let failure = server.moderate(&remove).await.unwrap_err();
        assert_eq!(failure.code, "not-found", "{failure:?}");

        // The agent may come back. The token of one who was removed is void for a minute.
        let (mut agent, _) = server.joined("agent2").await;
        server.moderate(&Moderation::DeleteRoom).await.unwrap();
        assert_eq!(reason_of(&agent.until(is_over).await), Reason::RoomDeleted);
        let id = agent.send_text("too late");
        let events = agent.until(|event| matches!(event, RoomEvent::Failed(_))).await;
        let Some(RoomEvent::Failed(failure)) = events.last() else { panic!() };
        assert_eq!((failure.id, failure.code), (id, "not-joined"));
        let mute = Moderation::MuteTrack { identity: "ann".into(), track_sid: "TR_1".into(), muted: true };
        let failure = server.moderate(&mute).await.unwrap_err();
        assert_eq!((failure.code, failure.status), ("refused", 503), "nobody is there any more");
    });
}

#[test]
fn wrong_tokens_and_wrong_servers_fail_with_the_reason() {
    run(async |server: RealServer| {
        let rooms = Rooms::start(RoomsSettings { threads: 1, rooms_max: 1 }, server.network.clone()).unwrap();
        let refused = async |url: String, token: String| {
            let (url, token, limits) = (url, Secret(token), RoomLimits::default());
            let (name, metadata, attributes) = Default::default();
            let room = rooms.open(RoomSettings { url, token, name, metadata, attributes, limits }).unwrap();
            room.try_perform(Command::Connect { id: 1 }).unwrap();
            let Some(RoomEvent::Failed(failure)) = room.next().await else { panic!() };
            drop(room);
            while rooms.count() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            failure
        };
        let failure = refused(server.url(), "nonsense".into()).await;
        assert_eq!(failure.code, "not-allowed");
        let failure = refused(format!("{}/elsewhere", server.url()), token("agent")).await;
        assert_eq!(failure.code, "not-supported", "{failure:?}");
        assert!(failure.message.contains("LiveKit 1.9.10 or newer is needed"), "{failure:?}");
    });
}

#[test]
fn person_by_livekits_own_client_talks_with_the_agent() {
    run(async |server: RealServer| {
        let Some(python) = python() else { return };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/interop/clients/person.py");
        let mut person = Process::new(python)
            .args([script, &server.url(), &token("ann")])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut agent, _) = server.joined("agent").await;
        let large = "é".repeat(40_000);
        let orders = [
            json!({ "do": "text", "topic": "lk.chat", "text": "hello" }),
            json!({ "do": "text", "topic": "lk.chat", "text": large }),
            json!({ "do": "file", "name": "all.bin", "bytes": 102_400 }),
            json!({ "do": "data", "topic": "t", "payload": "sure", "reliable": true }),
            json!({ "do": "data", "topic": "t", "payload": "maybe", "reliable": false }),
            json!({ "do": "call", "to": "agent", "method": "echo", "payload": "ping" }),
            json!({ "do": "call", "to": "agent", "method": "nothing", "payload": "" }),
        ];
        let orders: String = orders.iter().map(|order| format!("{order}\n")).collect();
        person.stdin.as_mut().unwrap().write_all(orders.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(person.stdout.take().unwrap()).lines();
        let mut told: Vec<Value> = Vec::new();
        let mut has_said_bye = false;
        loop {
            tokio::select! {
                event = agent.room.next() => echo(&mut agent, event.unwrap()),
                line = lines.next_line() => {
                    told.push(serde_json::from_str(&line.unwrap().unwrap()).unwrap());
                    if told.last().unwrap()["saw"] == "left" { break; }
                }
            }
            let all = ["text", "text", "file", "data", "data", "answer", "refusal", "call", "attributes"];
            if !has_said_bye
                && all.iter().all(|saw| of_kind(&told, saw).len() >= all.iter().filter(|other| *other == saw).count())
            {
                agent.send_text("bye");
                agent.perform(Command::Disconnect);
                has_said_bye = true;
            }
        }
        let [agent] = of_kind(&told, "joined")[..] else { panic!("{told:?}") };
        assert_eq!((&agent["who"], &agent["kind"]), (&json!("agent"), &json!("agent")));
        let texts: Vec<_> = of_kind(&told, "text").iter().map(|text| text["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["echo hello", &format!("echo {large}"), "bye"]);
        let [sent] = of_kind(&told, "sent-file")[..] else { panic!("{told:?}") };
        let [file] = of_kind(&told, "file")[..] else { panic!("{told:?}") };
        assert_eq!((&file["name"], &file["sha256"]), (&json!("all.bin"), &sent["sha256"]));
        let data: Vec<_> = of_kind(&told, "data").iter().map(|data| (&data["payload"], &data["reliable"])).collect();
        for wanted in [(&json!("sure"), &json!(true)), (&json!("maybe"), &json!(false))] {
            assert!(data.contains(&wanted), "{data:?}");
        }
        assert_eq!(of_kind(&told, "answer")[0]["payload"], "echo ping");
        assert_eq!(of_kind(&told, "refusal")[0]["code"], 1_400);
        assert_eq!(of_kind(&told, "call")[0]["payload"], "all.bin");
        assert_eq!(of_kind(&told, "attributes")[0]["changed"]["lk.agent.state"], "speaking");
        assert_eq!(of_kind(&told, "left")[0]["reason"], "CLIENT_INITIATED");
    });
}

fn of_kind<'a>(told: &'a [Value], saw: &str) -> Vec<&'a Value> {
    told.iter().filter(|line| line["saw"] == saw).collect()
}

#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a skipped test says so")]
fn python() -> Option<String> {
    let python = std::env::var("LIVEKIT_PYTHON").ok();
    if python.is_none() {
        println!("skipped: LIVEKIT_PYTHON names no Python with the package livekit");
    }
    python
}

/// What the agent does that tests/interop/clients/person.py meets.
fn echo(agent: &mut Seen, event: RoomEvent) {
    match event {
        RoomEvent::Text { info, text } => {
            let options = SendOptions { reply_to: info.stream_id, ..SendOptions::default() };
            let (id, text) = (agent.new_id(), format!("echo {text}"));
            agent.perform(Command::SendText { id, topic: info.topic, text, options });
        }
        RoomEvent::File { info, bytes } => {
            let (id, timeout) = (agent.new_id(), Duration::from_secs(60));
            let (destination, payload) = (info.sender.unwrap(), info.name.clone());
            agent.perform(Command::Call { id, destination, method: "accept_file".into(), payload, timeout });
            let (id, topic, name, mime_type) = (agent.new_id(), info.topic, info.name, info.mime_type);
            agent.perform(Command::SendFile { id, topic, name, mime_type, bytes, options: SendOptions::default() });
        }
        RoomEvent::Data { topic, payload, reliable, .. } => {
            let id = reliable.then(|| agent.new_id());
            agent.perform(Command::SendData { id, topic, payload, destinations: Vec::new() });
        }
        RoomEvent::RpcRequest { id: request, method, payload, .. } => {
            let unknown = RpcError { code: 1_400, message: "unknown".into(), data: String::new() };
            let answer = if method == "echo" { Ok(format!("echo {payload}")) } else { Err(unknown) };
            agent.perform(Command::Answer { request, answer });
        }
        RoomEvent::RpcAnswer { answer, .. } => {
            assert_eq!(answer, Ok("yes".into()));
            agent.perform(Command::SetAgentState { state: AgentState::Speaking });
        }
        RoomEvent::Failed(failure) => panic!("{failure:?}"),
        _ => {}
    }
}

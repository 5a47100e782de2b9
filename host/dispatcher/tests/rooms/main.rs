//! Rooms of a dispatcher, joined by the project's own room crate through real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking"
)]

mod agents;
mod people;
mod sound;
mod support;

use std::time::Duration;

use livekit_protocol as proto;
use livekit_token::VideoGrants;
use prost::Message as _;
use wasm_worker_core::room::command::{AgentState, Command, Receipt, SendOptions};
use wasm_worker_core::room::event::{Reason, RoomEvent};
use wasm_worker_core::room::moderation::Moderation;
use wasm_worker_core::room::people::{ParticipantKind, ParticipantState};

use support::{Host, Seen, run, token, token_for};

fn is_connected(event: &RoomEvent) -> bool {
    matches!(event, RoomEvent::Connected { .. })
}

fn reason_of(events: &[RoomEvent]) -> Reason {
    let Some(RoomEvent::Disconnected { reason, .. }) = events.last() else { panic!("{events:?}") };
    *reason
}

async fn end_of(room: &mut Seen) -> Reason {
    reason_of(&room.until(|event| matches!(event, RoomEvent::Disconnected { .. })).await)
}

#[test]
fn two_participants_see_each_other_and_exchange_texts_files_and_calls() {
    run(async |host: Host| {
        let (mut agent, events) = host.joined("agent").await;
        let Some(RoomEvent::Connected { local, room }) = events.iter().find(|event| is_connected(event)) else {
            panic!("{events:?}");
        };
        assert_eq!((local.kind, local.state), (ParticipantKind::Agent, ParticipantState::Active));
        assert_eq!(room.name, "lobby");
        let (mut ann, events) = host.joined("ann").await;
        assert!(matches!(&events[0], RoomEvent::ParticipantJoined(other) if other.identity == "agent"), "{events:?}");

        // A text, as early as it can be sent.
        ann.send_text("hello");
        let events = agent.until(|event| matches!(event, RoomEvent::Text { .. })).await;
        let Some(RoomEvent::Text { info, text }) = events.last() else { panic!() };
        assert_eq!((info.sender.as_deref(), text.as_str()), (Some("ann"), "hello"));

        // Attributes, name and state.
        agent.perform(Command::SetAttributes { id: 20, attributes: vec![("a".into(), "1".into())] });
        agent.perform(Command::SetAgentState { state: AgentState::Thinking });
        agent.perform(Command::SetName { id: 21, name: "Bot".into() });
        agent.until(|event| *event == RoomEvent::Done(21)).await;
        let is_complete = |event: &RoomEvent| {
            matches!(event, RoomEvent::ParticipantChanged { participant, .. } if participant.name == "Bot"
                && participant.attributes.contains(&("a".into(), "1".into()))
                && participant.attributes.contains(&("lk.agent.state".into(), "thinking".into())))
        };
        ann.until(is_complete).await;

        // A file.
        let bytes: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
        agent.perform(Command::Receive { topic: "files".into(), receipt: Receipt::Whole });
        ann.perform(Command::SendFile {
            id: 30,
            topic: "files".into(),
            name: "a.bin".into(),
            mime_type: "application/octet-stream".into(),
            bytes: bytes.clone(),
            options: SendOptions::default(),
        });
        let events = agent.until(|event| matches!(event, RoomEvent::File { .. })).await;
        assert!(matches!(events.last(), Some(RoomEvent::File { bytes: got, .. }) if *got == bytes));

        // A call each way.
        call(&mut ann, &mut agent, "agent").await;
        call(&mut agent, &mut ann, "ann").await;
        agent.perform(Command::Disconnect);
        let events = ann.until(|event| matches!(event, RoomEvent::ParticipantLeft { .. })).await;
        let Some(RoomEvent::ParticipantLeft { reason, .. }) = events.last() else { panic!() };
        assert_eq!(*reason, Reason::ClientInitiated);
    });
}

async fn call(caller: &mut Seen, callee: &mut Seen, destination: &str) {
    let (destination, method) = (destination.to_owned(), "echo".to_owned());
    let timeout = Duration::from_secs(60);
    caller.perform(Command::Call { id: 40, destination, method, payload: "ping".into(), timeout });
    let events = callee.until(|event| matches!(event, RoomEvent::RpcRequest { .. })).await;
    let Some(RoomEvent::RpcRequest { id: request, payload, .. }) = events.last() else { panic!() };
    let (request, answer) = (*request, Ok(format!("echo {payload}")));
    callee.perform(Command::Answer { request, answer });
    let events = caller.until(|event| matches!(event, RoomEvent::RpcAnswer { .. })).await;
    assert_eq!(events.last(), Some(&RoomEvent::RpcAnswer { id: 40, answer: Ok("echo ping".into()) }));
}

#[test]
fn texts_across_a_cut_of_the_link_arrive_once_and_in_order() {
    run(async |host: Host| {
        let (mut ann, _) = host.joined("ann").await;
        let (mut agent, _) = host.joined("agent").await;
        for number in 0..20 {
            agent.send_text(&number.to_string());
            if number == 7 {
                host.network.cut();
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
        // The link works again in both directions.
        agent.perform(Command::SetMetadata { id: 99, metadata: "m".into() });
        agent.until(|event| *event == RoomEvent::Done(99)).await;
        let statistics = agent.room.statistics();
        assert_eq!((statistics.resumes, statistics.rejoins), (1, 0));
    });
}

#[test]
fn ends_have_the_reasons_of_the_host() {
    run(async |host: Host| {
        let (mut older, _) = host.joined("agent").await;
        let (mut agent, _) = host.joined("agent").await;
        assert_eq!(end_of(&mut older).await, Reason::DuplicateIdentity);
        let remove = Moderation::RemoveParticipant { identity: "agent".into() };
        host.moderate(&remove).await.unwrap();
        assert_eq!(end_of(&mut agent).await, Reason::ParticipantRemoved);
        assert_eq!(host.moderate(&remove).await.unwrap_err().code, "not-found");
        let (mut agent, _) = host.joined("agent").await;
        host.moderate(&Moderation::DeleteRoom).await.unwrap();
        assert_eq!(end_of(&mut agent).await, Reason::RoomDeleted);
        assert_eq!(host.moderate(&Moderation::DeleteRoom).await.unwrap_err().code, "not-found");
        let mute = Moderation::MuteTrack { identity: "ann".into(), track_sid: "TR_1".into(), muted: true };
        assert_eq!(host.moderate(&mute).await.unwrap_err().code, "not-found");
        let request = proto::ForwardParticipantRequest::default();
        let failure = host.room_service("ForwardParticipant", &request).await.unwrap_err();
        assert_eq!(failure.code, "not-supported");
        assert!(failure.message.contains("ForwardParticipant"), "{failure:?}");
        // A new room has the same name.
        let (mut agent, _) = host.joined("agent").await;
        host.stop().await;
        assert_eq!(end_of(&mut agent).await, Reason::ServerShutdown);
    });
}

#[test]
fn api_lists_changes_and_reaches_the_participants() {
    run(async |host: Host| {
        let (mut agent, _) = host.joined("agent").await;
        let (_ann, _) = host.joined("ann").await;
        let request = proto::ListParticipantsRequest { room: "lobby".into() };
        let list = host.room_service("ListParticipants", &request).await.unwrap();
        let list = proto::ListParticipantsResponse::decode(list.as_slice()).unwrap();
        let mut names: Vec<&str> = list.participants.iter().map(|one| one.identity.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["agent", "ann"]);
        let rooms = host.room_service("ListRooms", &proto::ListRoomsRequest::default()).await.unwrap();
        let rooms = proto::ListRoomsResponse::decode(rooms.as_slice()).unwrap();
        assert_eq!((rooms.rooms[0].name.as_str(), rooms.rooms[0].num_participants), ("lobby", 1));
        let request = proto::UpdateParticipantRequest {
            room: "lobby".into(),
            identity: "ann".into(),
            metadata: "changed".into(),
            ..Default::default()
        };
        host.room_service("UpdateParticipant", &request).await.unwrap();
        agent
            .until(|event| {
                matches!(event, RoomEvent::ParticipantChanged { participant, .. } if participant.metadata == "changed")
            })
            .await;
        let request = proto::SendDataRequest {
            room: "lobby".into(),
            data: b"from the api".to_vec(),
            topic: Some("t".into()),
            ..Default::default()
        };
        host.room_service("SendData", &request).await.unwrap();
        let events = agent.until(|event| matches!(event, RoomEvent::Data { .. })).await;
        assert!(
            matches!(events.last(), Some(RoomEvent::Data { sender: None, payload, .. }) if payload == b"from the api"),
            "{events:?}"
        );
        // The packet has each receiver twice, and no client takes a packet of this size.
        let too_long = proto::SendDataRequest {
            data: vec![0; 60_000],
            destination_identities: vec!["x".repeat(100); 30],
            ..request.clone()
        };
        assert_eq!(host.room_service("SendData", &too_long).await.unwrap_err().code, "invalid");
        let too_many = proto::SendDataRequest { destination_identities: vec![String::new(); 32_000], ..request };
        assert_eq!(host.room_service("SendData", &too_many).await.unwrap_err().code, "invalid");
        let request = proto::UpdateRoomMetadataRequest { room: "lobby".into(), metadata: "of the room".into() };
        host.room_service("UpdateRoomMetadata", &request).await.unwrap();
        agent.until(|event| matches!(event, RoomEvent::RoomChanged(room) if room.metadata == "of the room")).await;
        let who =
            proto::RoomParticipantIdentity { room: "lobby".into(), identity: "nobody".into(), ..Default::default() };
        assert_eq!(host.room_service("GetParticipant", &who).await.unwrap_err().code, "not-found");
    });
}

#[test]
fn room_ends_after_its_last_participant() {
    run(async |host: Host| {
        let (ann, _) = host.joined("ann").await;
        // An agent alone does not keep the room.
        let (mut agent, _) = host.joined("agent").await;
        let rooms = async || {
            let rooms = host.room_service("ListRooms", &proto::ListRoomsRequest::default()).await.unwrap();
            proto::ListRoomsResponse::decode(rooms.as_slice()).unwrap().rooms
        };
        let request = proto::CreateRoomRequest { name: "lobby".into(), departure_timeout: 1, ..Default::default() };
        host.room_service("CreateRoom", &request).await.unwrap();
        assert_eq!((rooms().await[0].departure_timeout, rooms().await[0].num_participants), (1, 1));
        ann.perform(Command::Disconnect);
        assert_eq!(end_of(&mut agent).await, Reason::RoomClosed);
        while !rooms().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (_agent, events) = host.joined("agent").await;
        assert!(events.iter().any(is_connected), "a new room has the same name");
    });
}

#[test]
fn token_of_the_first_participant_describes_its_room() {
    run(async |host: Host| {
        let config = |metadata: &str| proto::RoomConfiguration {
            metadata: metadata.into(),
            departure_timeout: 7,
            max_participants: 5,
            agents: vec![proto::RoomAgentDispatch { agent_name: metadata.into(), ..Default::default() }],
            ..Default::default()
        };
        let mut people = Vec::new();
        for (identity, metadata) in [("ann", "first"), ("bob", "second")] {
            let (person, events) = host.joined_with(token_for(identity, config(metadata))).await;
            let is_so =
                |event: &RoomEvent| matches!(event, RoomEvent::Connected { room, .. } if room.metadata == "first");
            assert!(events.iter().any(is_so), "{events:?}");
            people.push(person);
        }
        // One that could not be created is of no account for a room that exists.
        let too_many = proto::RoomConfiguration { agents: vec![Default::default(); 101], ..config("third") };
        people.push(host.joined_with(token_for("eve", too_many)).await.0);
        let rooms = host.room_service("ListRooms", &proto::ListRoomsRequest::default()).await.unwrap();
        let room = proto::ListRoomsResponse::decode(rooms.as_slice()).unwrap().rooms.remove(0);
        assert_eq!((room.departure_timeout, room.max_participants, room.empty_timeout), (7, 5, 300));
        let asked = proto::ListAgentDispatchRequest { room: "lobby".into(), ..Default::default() }.encode_to_vec();
        let grants = VideoGrants { room_admin: true, room: "lobby".into(), ..Default::default() };
        let list = host.post("/twirp/livekit.AgentDispatchService/ListDispatch", &asked, grants).await.unwrap();
        let list = proto::ListAgentDispatchResponse::decode(list.as_slice()).unwrap().agent_dispatches;
        assert_eq!(list.iter().map(|dispatch| dispatch.agent_name.as_str()).collect::<Vec<_>>(), ["first"]);
    });
}

#[test]
fn requests_to_join_are_checked_before_the_link_opens() {
    run(async |host: Host| {
        let get = async |path: &str, token: Option<String>| host.get(path, token).await;
        for path in ["/rtc/v1/validate", "/rtc/validate"] {
            assert_eq!(get(path, Some(token("ann"))).await.0, 200, "{path}");
            assert_eq!(get(path, None).await.0, 401, "{path}");
            assert_eq!(get(path, Some("nonsense".into())).await.0, 401, "{path}");
            assert_eq!(get(path, Some(token(""))).await.0, 401, "{path}: a token of nobody");
        }
        // The query of a client with two peer connections.
        assert_eq!(get("/rtc", Some(token("ann"))).await, (404, "want a WebSocket".into()));
        let wrong = (400, "`attributes` is no JSON object of texts in base64".into());
        assert_eq!(get("/rtc?attributes=AAAA", Some(token("ann"))).await, wrong);
        assert_eq!(get("/rtc", None).await.0, 401);
        assert_eq!(
            get("/rtc/v1?join_request=AAAA", Some(token("ann"))).await,
            (400, "`join_request` holds no `JoinRequest`".into())
        );
        assert_eq!(get("/rtc?join_request=AAAA", Some(token("ann"))).await.0, 400);
        assert_eq!(get("/rtc/v1", Some(token("ann"))).await.0, 400);
        assert_eq!(get("/rtc/v1?join_request=", Some(token("ann"))).await.0, 404, "no WebSocket");
    });
}

#[test]
fn clients_with_a_join_request_join_at_the_older_path_too() {
    run(async |host: Host| {
        let (mut ann, _) = host.joined("ann").await;
        let _link = host.link("/rtc").await;
        let is_eve =
            |event: &RoomEvent| matches!(event, RoomEvent::ParticipantJoined(other) if other.identity == "eve");
        ann.until(is_eve).await;
    });
}

#[test]
fn data_for_a_room_in_which_nobody_has_been_is_taken_and_reaches_nobody() {
    run(async |host: Host| {
        let request = proto::SendDataRequest { room: "lobby".into(), data: vec![1], ..Default::default() };
        assert_eq!(host.room_service("SendData", &request).await.unwrap_err().code, "not-found");
        let create = proto::CreateRoomRequest { name: "lobby".into(), ..Default::default() };
        host.room_service("CreateRoom", &create).await.unwrap();
        assert_eq!(host.room_service("SendData", &request).await.unwrap(), Vec::<u8>::new());
    });
}

#[test]
fn services_that_are_left_out_say_so_by_name() {
    run(async |host: Host| {
        for (service, method) in
            [("Egress", "ListEgress"), ("Ingress", "CreateIngress"), ("SIP", "ListSIPInboundTrunk")]
        {
            let path = format!("/twirp/livekit.{service}/{method}");
            let failure = host.post(&path, &[], VideoGrants::default()).await.unwrap_err();
            assert_eq!(failure.status, 501, "{failure:?}");
            assert!(failure.message.contains(&format!("`{method}` of `livekit.{service}`")), "{failure:?}");
        }
        let nothing = host.post("/twirp/livekit.Nothing/ListNothing", &[], VideoGrants::default()).await;
        assert_eq!(nothing.unwrap_err().status, 404);
    });
}

#[test]
fn garbage_on_the_link_and_to_the_socket_hurts_nobody_else() {
    run(async |host: Host| {
        let (mut ann, _) = host.joined("ann").await;
        let (mut agent, _) = host.joined("agent").await;
        host.send_garbage().await;
        ann.send_text("still here");
        let events = agent.until(|event| matches!(event, RoomEvent::Text { .. })).await;
        assert!(matches!(events.last(), Some(RoomEvent::Text { text, .. }) if text == "still here"));
    });
}

//! Remote procedure calls.

use livekit_protocol as proto;
use proto::data_packet::Value;
use proto::rpc_response::Value as Answer;

use super::super::limits::{INCOMING_BYTES_MAX, PAYLOAD_BYTES_MAX, REQUESTS_MAX, ROUND_TRIP_MAX, SENDER_REQUESTS_MAX};
use super::*;
use wasm_worker_core::room::command::{IncomingId, RpcError};

const TIMEOUT: Duration = Duration::from_secs(10);

fn call(side: &mut Side, id: u32, payload: String) {
    side.perform(Command::Call { id, destination: "ann".into(), method: "m".into(), payload, timeout: TIMEOUT });
}

/// The code of the only event, which ends this call.
fn code(side: &mut Side, call: u32) -> u32 {
    let events = side.events();
    let [RoomEvent::RpcAnswer { id, answer: Err(error) }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((*id, error.message.is_empty()), (call, false));
    assert_eq!((side.streams.calls.len(), side.streams.wake_at()), (0, None));
    error.code
}

/// The request that this side sends, and nothing else.
fn asked(side: &mut Side) -> proto::RpcRequest {
    match side.packets().as_slice() {
        [(Channel::Reliable, packet)] if packet.destination_identities == ["ann"] => match &packet.value {
            Some(Value::RpcRequest(request)) => request.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn request(id: &str) -> proto::RpcRequest {
    let (method, payload) = ("m".into(), "p".into());
    proto::RpcRequest { id: id.into(), method, payload, response_timeout_ms: 8_000, version: 1, ..Default::default() }
}

/// The codes of the answers that this side sends; 0 for a success. Each request has had its receipt.
fn answered(side: &mut Side) -> Vec<u32> {
    let values = side.packets().into_iter().filter_map(|(_, packet)| packet.value);
    values
        .filter_map(|value| match value {
            Value::RpcResponse(proto::RpcResponse { value: Some(Answer::Error(error)), .. }) => Some(error.code),
            Value::RpcResponse(_) => Some(0),
            Value::RpcAck(_) => None,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn forget_sent(side: &mut Side) {
    side.advance(Duration::from_secs(11));
}

#[test]
fn answers_wait_within_the_bounds_of_what_comes_from_outside() {
    let mut agent = Side::new("agent");
    let answer = |agent: &mut Side, id| {
        call(agent, id, "ping".into());
        let request_id = asked(agent).id;
        let value = Some(Answer::Payload("x".repeat(10_000)));
        agent.receive(Value::RpcResponse(proto::RpcResponse { request_id, value }));
    };
    answer(&mut agent, 1);
    assert!(agent.streams.bytes() > 10_000);
    let user = proto::UserPacket { payload: vec![1; 1_000], ..Default::default() };
    while agent.streams.bytes() < INCOMING_BYTES_MAX - 5_000 {
        agent.receive(Value::User(user.clone()));
    }
    answer(&mut agent, 2);
    let codes = agent.events().into_iter().filter_map(|event| match event {
        RoomEvent::RpcAnswer { id, answer } => {
            Some((id, answer.map(|payload| payload.len()).map_err(|error| error.code)))
        }
        _ => None,
    });
    assert_eq!(codes.collect::<Vec<_>>(), [(1, Ok(10_000)), (2, Err(1_504))]);
    assert_eq!(agent.streams.bytes(), 0);
}

#[test]
fn a_call_is_answered() {
    let (mut agent, mut ann) = (Side::new("agent"), Side::new("ann"));
    call(&mut agent, 1, "ping".into());
    agent.send_to(&mut ann);
    let events = ann.events();
    let [RoomEvent::RpcRequest { id, caller, method, payload, timeout }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((caller.as_deref(), method.as_str(), payload.as_str()), (Some("agent"), "m", "ping"));
    assert_eq!(*timeout, Duration::from_secs(3), "the way takes up to seven");
    ann.perform(Command::Answer { request: *id, answer: Ok("pong".into()) });
    ann.perform(Command::Answer { request: *id, answer: Ok("twice".into()) });
    talk(&mut ann, &mut agent);
    assert_eq!(agent.events(), [RoomEvent::RpcAnswer { id: 1, answer: Ok("pong".into()) }]);
    assert_eq!((ann.events(), agent.streams.calls.len(), ann.streams.requests.len()), (vec![], 0, 0));
    assert_eq!(agent.streams.counts().ignored, 0);
}

#[test]
fn an_error_comes_back_within_bounds() {
    let (mut agent, mut ann) = (Side::new("agent"), Side::new("ann"));
    call(&mut agent, 1, String::new());
    agent.send_to(&mut ann);
    ann.events();
    let error = RpcError { code: 101, message: "é".repeat(1_000), data: "x".repeat(20_000) };
    ann.perform(Command::Answer { request: IncomingId(1), answer: Err(error) });
    ann.send_to(&mut agent);
    let events = agent.events();
    let [RoomEvent::RpcAnswer { answer: Err(error), .. }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((error.code, error.message.len(), error.data.len()), (101, 256, PAYLOAD_BYTES_MAX));
}

#[test]
fn sizes_are_those_of_the_protocol() {
    let (mut agent, mut ann) = (Side::new("agent"), Side::new("ann"));
    call(&mut agent, 1, "x".repeat(PAYLOAD_BYTES_MAX + 1));
    assert_eq!((code(&mut agent, 1), agent.packets().len()), (1_402, 0));
    call(&mut agent, 2, "x".repeat(PAYLOAD_BYTES_MAX));
    agent.send_to(&mut ann);
    assert_eq!(ann.events().len(), 1);
    ann.perform(Command::Answer { request: IncomingId(1), answer: Ok("x".repeat(PAYLOAD_BYTES_MAX + 1)) });
    ann.send_to(&mut agent);
    forget_sent(&mut agent);
    assert_eq!(code(&mut agent, 2), 1_504);
    ann.receive(Value::RpcRequest(proto::RpcRequest { payload: "x".repeat(PAYLOAD_BYTES_MAX + 1), ..request("r") }));
    assert_eq!((answered(&mut ann), ann.events()), (vec![1_402], vec![]));
}

#[test]
fn a_call_without_receipt_ends_after_seven_seconds() {
    let mut agent = Side::new("agent");
    call(&mut agent, 1, String::new());
    agent.advance(Duration::from_secs(1));
    asked(&mut agent);
    agent.advance(ROUND_TRIP_MAX - Duration::from_millis(1));
    assert_eq!(agent.events(), [], "it was sent a second later");
    agent.now += Duration::from_millis(1);
    agent.streams.advance(agent.now);
    let events = agent.events();
    assert!(matches!(events.as_slice(), [RoomEvent::RpcAnswer { id: 1, answer: Err(error) }] if error.code == 1_501));
}

#[test]
fn a_call_without_answer_ends_by_its_time() {
    let mut agent = Side::new("agent");
    call(&mut agent, 1, String::new());
    let request_id = asked(&mut agent).id;
    agent.receive(Value::RpcAck(proto::RpcAck { request_id: request_id.clone() }));
    agent.advance(TIMEOUT - Duration::from_millis(1));
    assert_eq!(agent.events(), []);
    forget_sent(&mut agent);
    assert_eq!(code(&mut agent, 1), 1_502);
    agent.receive(Value::RpcResponse(proto::RpcResponse { request_id, value: Some(Answer::Payload("late".into())) }));
    assert_eq!((agent.events(), agent.streams.counts().ignored), (vec![], 1));
}

#[test]
fn a_call_that_waits_to_be_sent_ends_by_its_time_and_is_not_sent() {
    let mut agent = Side::new("agent");
    call(&mut agent, 1, String::new());
    agent.advance(TIMEOUT);
    assert_eq!((code(&mut agent, 1), agent.packets().len()), (1_502, 0));
}

#[test]
fn a_called_participant_that_leaves_ends_the_call() {
    let mut agent = Side::new("agent");
    call(&mut agent, 1, String::new());
    asked(&mut agent);
    agent.streams.participant_left("PA_bob", "bob", agent.now);
    assert_eq!(agent.events(), []);
    agent.streams.participant_left("PA_ann", "ann", agent.now);
    forget_sent(&mut agent);
    assert_eq!(code(&mut agent, 1), 1_503);
}

#[test]
fn only_the_called_participant_answers() {
    let mut agent = Side::new("agent");
    call(&mut agent, 1, String::new());
    let request_id = asked(&mut agent).id;
    let answer = || Value::RpcResponse(proto::RpcResponse { request_id: request_id.clone(), value: None });
    agent.receive_from("PA_bob", "bob", answer());
    assert_eq!(agent.events(), []);
    agent.receive(answer());
    forget_sent(&mut agent);
    assert_eq!(code(&mut agent, 1), 1_404, "no form that this version reads");
}

#[test]
fn a_call_given_up_is_not_heard_of_again() {
    let mut agent = Side::new("agent");
    call(&mut agent, 1, String::new());
    let request_id = asked(&mut agent).id;
    agent.perform(Command::Cancel { id: 1 });
    agent.receive(Value::RpcResponse(proto::RpcResponse { request_id, value: Some(Answer::Payload(String::new())) }));
    assert_eq!((agent.events(), agent.streams.calls.len()), (vec![], 0));
}

#[test]
fn a_call_to_nobody_fails() {
    let mut agent = Side::new("agent");
    let (destination, method, payload) = (String::new(), "m".into(), String::new());
    agent.perform(Command::Call { id: 1, destination, method, payload, timeout: TIMEOUT });
    let events = agent.events();
    assert!(matches!(events.as_slice(), [RoomEvent::Failed(failure)] if failure.code == "invalid"));
}

#[test]
fn a_call_survives_a_new_session_and_ends_with_the_room() {
    let mut agent = Side::new("agent");
    call(&mut agent, 1, String::new());
    let request_id = asked(&mut agent).id;
    call(&mut agent, 2, String::new());
    agent.streams.rejoined(agent.now);
    assert_eq!(agent.events(), []);
    agent.receive(Value::RpcResponse(proto::RpcResponse { request_id, value: Some(Answer::Payload("a".into())) }));
    assert_eq!(agent.events(), [RoomEvent::RpcAnswer { id: 1, answer: Ok("a".into()) }]);
    assert_ne!(asked(&mut agent).id, "");
    agent.streams.left(agent.now);
    let events = agent.events();
    assert!(
        matches!(events.as_slice(), [RoomEvent::Failed(failure)] if (failure.id, failure.code) == (2, "not-joined"))
    );
    assert_eq!(agent.streams.calls.len(), 0);
}

#[test]
fn a_request_is_acknowledged_and_delivered_once() {
    let mut agent = Side::new("agent");
    (0..3).for_each(|_| agent.receive(Value::RpcRequest(request("r"))));
    assert_eq!(agent.events().len(), 1);
    let receipts = agent.packets();
    assert_eq!(receipts.len(), 3);
    assert!(receipts.iter().all(|(_, packet)| packet.destination_identities == ["ann"]));
    agent.perform(Command::Answer { request: IncomingId(1), answer: Ok(String::new()) });
    assert_eq!(answered(&mut agent), [0]);
    agent.receive(Value::RpcRequest(request("r")));
    assert_eq!((agent.events(), answered(&mut agent), agent.streams.counts().repeats), (vec![], vec![], 3));
    agent.receive_from("PA_bob", "bob", Value::RpcRequest(request("r")));
    assert_eq!(agent.events().len(), 1, "the same id of another caller");
}

#[test]
fn a_request_that_is_not_answered_in_time_is_answered_by_the_room() {
    let mut agent = Side::new("agent");
    agent.receive(Value::RpcRequest(request("r")));
    agent.packets();
    agent.events();
    agent.advance(Duration::from_secs(8));
    let events = agent.events();
    assert!(matches!(events.as_slice(), [RoomEvent::RpcRequestFailed { id: IncomingId(1), code: "timeout", .. }]));
    agent.perform(Command::Answer { request: IncomingId(1), answer: Ok(String::new()) });
    assert_eq!((answered(&mut agent), agent.streams.requests.len()), (vec![1_502], 0));
}

#[test]
fn other_versions_are_refused() {
    let mut agent = Side::new("agent");
    agent.receive(Value::RpcRequest(proto::RpcRequest { version: 2, ..request("r") }));
    agent.receive(Value::RpcRequest(proto::RpcRequest { compressed_payload: vec![1], ..request("s") }));
    let header = proto::data_stream::Header {
        topic: "lk.rpc_request".into(),
        attributes: [("lk.rpc_request_id".into(), "t".into())].into(),
        ..Default::default()
    };
    agent.receive(Value::StreamHeader(header));
    assert_eq!((agent.events(), answered(&mut agent)), (vec![], vec![1_404, 1_404, 1_404]));
}

#[test]
fn a_caller_that_leaves_ends_its_requests() {
    let mut agent = Side::new("agent");
    agent.receive(Value::RpcRequest(request("r")));
    agent.receive_from("PA_bob", "bob", Value::RpcRequest(request("r")));
    agent.events();
    agent.streams.participant_left("PA_ann", "ann", agent.now);
    let events = agent.events();
    assert!(matches!(events.as_slice(), [RoomEvent::RpcRequestFailed { id: IncomingId(1), code: "interrupted", .. }]));
    agent.streams.left(agent.now);
    let events = agent.events();
    assert!(matches!(events.as_slice(), [RoomEvent::RpcRequestFailed { id: IncomingId(2), code: "not-joined", .. }]));
    assert_eq!((agent.streams.requests.len(), agent.streams.wake_at()), (0, None));
}

#[test]
fn requests_are_bounded_and_the_rest_is_answered() {
    let mut agent = Side::new("agent");
    (0..SENDER_REQUESTS_MAX + 2).for_each(|number| agent.receive(Value::RpcRequest(request(&number.to_string()))));
    assert_eq!(answered(&mut agent), [1_500, 1_500]);
    let lost = RoomEvent::Lost { what: "rpc-request", id: None, count: 2 };
    let events = agent.events();
    assert!(events.contains(&lost) && events.len() == SENDER_REQUESTS_MAX + 1);
    for number in 0..2 * REQUESTS_MAX {
        let caller = format!("p{}", number / SENDER_REQUESTS_MAX);
        agent.receive_from(&caller, &caller, Value::RpcRequest(request(&number.to_string())));
        agent.events();
        agent.packets();
    }
    assert_eq!(agent.streams.requests.len(), REQUESTS_MAX);
    agent.receive(Value::RpcRequest(request(&"x".repeat(1_000))));
    assert_eq!(
        (agent.events(), agent.packets().len()),
        (vec![RoomEvent::Lost { what: "rpc-request", id: None, count: 1 }], 0)
    );
}

#[test]
fn a_request_given_up_is_answered() {
    let mut agent = Side::new("agent");
    agent.receive(Value::RpcRequest(request("r")));
    agent.events();
    agent.perform(Command::CancelIncoming { id: IncomingId(1) });
    assert_eq!((answered(&mut agent), agent.events()), (vec![1_500], vec![]));
}

#[test]
fn receipts_that_nobody_takes_are_bounded() {
    let mut agent = Side::new("agent");
    (0..10_000).for_each(|_| agent.receive(Value::RpcRequest(request("r"))));
    assert!(agent.streams.bytes() < 300_000 && agent.streams.counts().replies_dropped > 0);
}

#[test]
fn answers_that_the_server_did_not_get_are_sent_in_the_new_session() {
    let mut agent = Side::new("agent");
    agent.receive(Value::RpcRequest(request("r")));
    agent.events();
    agent.packets();
    agent.perform(Command::Answer { request: IncomingId(1), answer: Ok("a".into()) });
    let sent = agent.streams.next_packet().unwrap().1;
    agent.streams.rejoined(agent.now);
    let packets = agent.packets();
    assert_eq!(packets.len(), 1);
    assert_eq!((&packets[0].1.value, packets[0].1.sequence), (&sent.value, 1));
}

//! Before, at and after the join.

use std::time::Duration;

use wasm_worker_core::event::Event as Published;
use wasm_worker_core::room::command::{Command, Receipt};
use wasm_worker_core::room::connection::RoomStatistics;
use wasm_worker_core::room::event::{Failure, Reason, RoomEvent};

use super::super::super::world::World;
use super::fake::{Test, ann, connected, disconnected};
use crate::guest::bindings::wasm_worker::agent::room::{AgentState, Receipt as ContractReceipt};
use crate::guest::calls::Call;

fn attributes(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

#[test]
fn a_job_that_never_connects_opens_no_room() {
    let mut test = Test::new(1 << 20);
    let id = test.send_text("too early");
    assert_eq!(test.failures(), [(id, "not-joined".into())]);
    test.perform(Call::Disconnect);
    test.perform(Call::SendData { id: None, topic: "t".into(), payload: vec![1], destinations: Vec::new() });
    assert!(test.events().is_empty() && test.state().opened.is_empty());
    assert_eq!((test.room.nothing_to_come(), test.room.is_joined()), (Some("the agent is not in a room"), false));
    assert!(test.room.is_delivered() && test.published().is_empty());
    assert!(Box::new(test.room).into_record().texts.is_empty());
}

#[test]
fn choices_before_the_join_go_with_it() {
    let mut test = Test::new(1 << 20);
    let changes = [
        test.call(|id| Call::SetAttributes { id, attributes: attributes(&[("a", "1"), ("b", "2"), ("mood", "")]) }),
        test.call(|id| Call::SetAttributes { id, attributes: attributes(&[("b", "")]) }),
        test.call(|id| Call::SetMetadata { id, metadata: "m".into() }),
        test.call(|id| Call::SetName { id, name: "n".into() }),
    ];
    test.perform(Call::SetAgentState { state: AgentState::Idle });
    test.perform(Call::Receive { topic: "t".into(), receipt: ContractReceipt::None });
    test.perform(Call::Receive { topic: "t".into(), receipt: ContractReceipt::Parts });
    assert_eq!(test.step(), changes.map(|id| ("done", id)));
    let connect = test.call(|id| Call::Connect { id });
    let settings = test.state().opened.pop().unwrap();
    assert_eq!((&*settings.url, &*settings.token.0), ("ws://rooms", "hidden"));
    assert_eq!((&*settings.name, &*settings.metadata), ("n", "m"));
    assert_eq!(settings.attributes, attributes(&[("a", "1"), ("lk.agent.state", "idle")]));
    assert_eq!(settings.limits.leave_within, test.job.meter.limits().shutdown_grace);
    let removed = Command::SetAttributes { id: 0, attributes: attributes(&[("mood", "")]) };
    let receive = Command::Receive { topic: "t".into(), receipt: Receipt::Parts };
    assert_eq!(test.commands(), [receive, Command::Connect { id: connect }, removed]);
    test.tell([RoomEvent::Done(0), connected(), RoomEvent::Done(connect)]);
    assert_eq!(test.step(), [("connected", 0), ("done", connect)], "the host's own operation is not told");
    // In the room, the room does it and says when.
    let change = test.call(|id| Call::SetName { id, name: "other".into() });
    assert!(test.events().is_empty());
    assert_eq!(test.commands(), [Command::SetName { id: change, name: "other".into() }]);
    let record = Box::new(test.room).into_record();
    assert_eq!(
        record.attributes.into_iter().collect::<Vec<_>>(),
        attributes(&[("a", "1"), ("lk.agent.state", "idle")])
    );
}

#[test]
fn a_join_is_published_with_its_time_and_its_end_with_its_numbers() {
    let mut test = Test::new(1 << 20);
    let connect = test.call(|id| Call::Connect { id });
    assert_eq!((test.room.nothing_to_come(), test.room.is_joined()), (None, false));
    test.state().statistics =
        RoomStatistics { joined_in: Some(Duration::from_millis(70)), bytes_sent: 5, ..RoomStatistics::default() };
    test.tell([RoomEvent::ParticipantJoined(ann()), connected(), RoomEvent::Done(connect)]);
    assert_eq!(test.step(), [("participant-joined", 0), ("connected", 0), ("done", connect)]);
    assert!(test.room.is_joined());
    assert_eq!(test.job.participants.all().len(), 1);
    let [Published::RoomJoined { agent, job, room, took_ms: 70 }] = &test.published()[..] else { panic!() };
    assert_eq!((&**agent, &**job, &**room), ("a", "AJ_1", "lobby"));
    test.state().statistics.resumes = 2;
    test.tell([RoomEvent::Reconnecting, connected(), RoomEvent::Reconnecting, connected()]);
    assert_eq!(test.step(), [("reconnecting", 0), ("connected", 0)].repeat(2));
    assert!(test.published().is_empty(), "it is the same stay");
    test.perform(Call::Disconnect);
    test.tell([disconnected(Reason::ClientInitiated)]);
    assert_eq!(test.step(), [("disconnected", 0)]);
    assert!(test.job.participants.all().is_empty(), "nobody is there any more");
    let [Published::RoomLeft { reason: "client-initiated", used, .. }] = &test.published()[..] else { panic!() };
    assert_eq!((used.resumes, used.bytes_sent), (2, 5));
    assert!(test.job.control.take_events().is_empty(), "the job goes on");
    assert_eq!(test.room.nothing_to_come(), Some("the agent is not in a room"));
    // The next stay counts its own numbers, in the same room.
    let connect = test.call(|id| Call::Connect { id });
    test.state().statistics.bytes_sent = 12;
    test.tell([connected(), RoomEvent::Done(connect)]);
    assert_eq!(test.state().opened.len(), 1);
    let (published, record) = (test.published(), Box::new(test.room).into_record());
    assert!(matches!(published[..], [Published::RoomJoined { .. }]) && record.texts.is_empty());
}

#[test]
fn a_job_that_ends_in_its_room_leaves_it() {
    let test = Test::joined();
    assert!(test.published().is_empty() && test.room.is_joined());
    let left = test.end();
    assert!(matches!(left[..], [Published::RoomLeft { reason: "client-initiated", .. }]), "{left:?}");
}

#[test]
fn a_failed_join_is_told_and_the_next_one_may_succeed() {
    let mut test = Test::new(1 << 20);
    test.state().is_refused = true;
    let id = test.call(|id| Call::Connect { id });
    assert_eq!(test.failures(), [(id, "limit".into())]);
    let [Published::RoomFailed { code: "limit", detail, .. }] = &test.published()[..] else { panic!() };
    assert_eq!(detail, "3 rooms are open, which is the most (`max-rooms`)");

    test.state().is_refused = false;
    let (first, second) = (test.call(|id| Call::Connect { id }), test.call(|id| Call::Connect { id }));
    let failed = |id| RoomEvent::Failed(Failure { id, code: "refused", message: "bad token".into() });
    test.tell([failed(first), failed(second)]);
    assert_eq!(test.failures(), [(first, "refused".into()), (second, "refused".into())]);
    assert!(matches!(test.published()[..], [Published::RoomFailed { code: "refused", .. }, _]));
    assert_eq!(test.room.nothing_to_come(), Some("the agent is not in a room"));
    assert!(test.job.control.take_events().is_empty(), "a job that was never in its room does not lose it");

    let third = test.call(|id| Call::Connect { id });
    test.tell([connected(), RoomEvent::Done(third)]);
    assert_eq!((test.step(), test.state().opened.len()), (vec![("connected", 0), ("done", third)], 1));
}

#[test]
fn a_join_that_nobody_waits_for_is_given_up() {
    let mut test = Test::new(1 << 20);
    let id = test.call(|id| Call::Connect { id });
    test.perform(Call::Cancel { id });
    assert_eq!(test.commands(), [Command::Connect { id }, Command::Cancel { id }]);
    assert_eq!(test.room.nothing_to_come(), Some("the agent is not in a room"));
    // The room was faster.
    test.tell([connected(), RoomEvent::Done(id)]);
    assert_eq!((test.step(), test.room.is_joined()), (vec![("connected", 0)], true));
}

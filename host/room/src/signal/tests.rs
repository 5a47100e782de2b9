//! The signalling under every order of inputs, also those that no server makes.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message as Response;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

#[derive(Clone, Debug)]
enum Input {
    Connect,
    Cancel,
    Leave,
    Wish,
    State,
    Opened,
    Failed(u16),
    Unreachable,
    Lost,
    PeerReady,
    PeerUnreachable,
    PeerClosed,
    Message(Box<Response>),
    Pass(u32),
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let input = prop_oneof![
        2 => Just(Input::Connect),
        1 => Just(Input::Cancel),
        1 => Just(Input::Leave),
        1 => Just(Input::Wish),
        1 => Just(Input::State),
        4 => Just(Input::Opened),
        1 => prop_oneof![Just(400), Just(401), Just(404), Just(429), Just(500), any::<u16>()].prop_map(Input::Failed),
        1 => Just(Input::Unreachable),
        2 => Just(Input::Lost),
        4 => Just(Input::PeerReady),
        1 => Just(Input::PeerUnreachable),
        1 => Just(Input::PeerClosed),
        10 => messages().prop_map(|message| Input::Message(Box::new(message))),
        4 => (0_u32..20_000).prop_map(Input::Pass),
    ];
    prop::collection::vec(input, 1..80)
}

fn messages() -> impl Strategy<Value = Response> {
    prop_oneof![
        (any::<i32>(), any::<i32>(), people(), any::<bool>()).prop_map(
            |(ping_interval, ping_timeout, others, is_whole)| {
                Response::Join(proto::JoinResponse {
                    participant: is_whole.then(|| person(0, 0, 1)),
                    other_participants: others,
                    ping_interval,
                    ping_timeout,
                    ..Default::default()
                })
            }
        ),
        any::<u32>().prop_map(|last_message_seq| {
            Response::Reconnect(proto::ReconnectResponse { last_message_seq, ..Default::default() })
        }),
        people().prop_map(|participants| Response::Update(proto::ParticipantUpdate { participants })),
        (any::<i32>(), prop_oneof![Just(Action::Disconnect), Just(Action::Resume), Just(Action::Reconnect)]).prop_map(
            |(reason, action)| {
                Response::Leave(proto::LeaveRequest { reason, action: action as i32, ..Default::default() })
            }
        ),
        any::<u32>().prop_map(|id| Response::Answer(proto::SessionDescription { id, ..Default::default() })),
        Just(Response::Trickle(proto::TrickleRequest::default())),
        Just(Response::RoomUpdate(proto::RoomUpdate::default())),
        (0_u32..5, any::<i32>()).prop_map(|(request_id, reason)| {
            Response::RequestResponse(proto::RequestResponse { request_id, reason, ..Default::default() })
        }),
        any::<i64>().prop_map(|last_ping_timestamp| {
            Response::PongResp(proto::Pong { last_ping_timestamp, timestamp: i64::MIN })
        }),
        (0_u8..5, any::<f32>(), any::<bool>()).prop_map(|(who, level, active)| {
            let speakers = vec![proto::SpeakerInfo { sid: format!("PA_{who}"), level, active }];
            Response::SpeakersChanged(proto::SpeakersChanged { speakers })
        }),
        people().prop_map(|other_participants| {
            Response::RoomMoved(proto::RoomMovedResponse { other_participants, ..Default::default() })
        }),
        Just(Response::RefreshToken("new".into())),
    ]
}

fn people() -> impl Strategy<Value = Vec<proto::ParticipantInfo>> {
    let info = (0_u8..5, 0_u8..5, any::<u32>()).prop_map(|(who, state, version)| person(who, state.into(), version));
    prop::collection::vec(info, 0..4)
}

fn person(who: u8, state: i32, version: u32) -> proto::ParticipantInfo {
    let (sid, identity) = (format!("PA_{who}"), format!("p{}", who % 3));
    proto::ParticipantInfo { sid, identity, state, version, ..Default::default() }
}

/// What a session would know from the outputs.
#[derive(Default)]
struct Watched {
    link: bool,
    ended: u32,
    last_id: u32,
}

impl Watched {
    fn read(&mut self, signal: &mut Signal) {
        while let Some(output) = signal.next_output() {
            match output {
                SignalOutput::Dial(_) => self.link = true,
                SignalOutput::HangUp => self.link = false,
                SignalOutput::Send(_) | SignalOutput::Resume { .. } => {
                    assert!(self.link, "a message without a link: {output:?}");
                }
                SignalOutput::Event(RoomEvent::Done(_) | RoomEvent::Failed(_)) => self.ended += 1,
                _ => {}
            }
        }
        assert!(self.link || !signal.has_link(), "a link that was given up is used");
    }
}

fn take(signal: &mut Signal, input: Input, watched: &mut Watched, now: &mut Instant) {
    let mut new_id = || {
        watched.last_id += 1;
        watched.last_id
    };
    match input {
        Input::Connect => signal.connect(new_id(), *now),
        // What is cancelled does not end; it counts as if it had.
        Input::Cancel => {
            let id = new_id();
            watched.ended += 1;
            signal.connect(id, *now);
            let is_over = signal.outputs.iter().any(|output| *output == SignalOutput::Event(RoomEvent::Done(id)));
            watched.ended -= u32::from(is_over || !signal.is_entering());
            signal.cancel(id);
        }
        Input::Leave => signal.leave(),
        Input::Wish => {
            let wish = Wish { attributes: vec![("a".into(), "1".into())], ..Wish::default() };
            signal.wish(new_id(), wish, *now);
        }
        Input::State => signal.set_state(AgentState::Thinking, *now),
        Input::Opened => signal.link_opened(*now),
        Input::Failed(status) => signal.link_failed(LinkError::Status { status, body: String::new() }, *now),
        Input::Unreachable => signal.link_failed(LinkError::Unreachable { why: String::new() }, *now),
        Input::Lost => signal.link_lost("", *now),
        Input::PeerReady => signal.peer_ready(*now),
        Input::PeerUnreachable => signal.peer_unreachable(*now),
        Input::PeerClosed => signal.peer_closed("", *now),
        Input::Message(message) => signal.receive(proto::SignalResponse { message: Some(*message) }, *now),
        Input::Pass(ms) => pass(signal, watched, now, Duration::from_millis(ms.into())),
    }
}

/// Let time pass, and look that it does.
fn pass(signal: &mut Signal, watched: &mut Watched, now: &mut Instant, time: Duration) {
    let end = *now + time;
    let mut turns = 0;
    while let Some(at) = signal.wake_at().filter(|at| *at <= end) {
        turns = if at > *now { 0 } else { turns + 1 };
        assert!(turns < 100, "time stands still");
        *now = at.max(*now);
        signal.advance(*now);
        watched.read(signal);
    }
    *now = end;
}

fn signal(now: Instant) -> Signal {
    let settings = RoomSettings {
        url: "ws://localhost".into(),
        token: Secret("jwt".into()),
        name: "bot".into(),
        metadata: String::new(),
        attributes: Vec::new(),
        limits: RoomLimits::default(),
    };
    Signal::new(settings, 1, now)
}

#[test]
fn an_empty_token_does_not_take_the_place_of_another() {
    let now = Instant::now();
    let mut signal = signal(now);
    let receive = |signal: &mut Signal, message| {
        signal.receive(proto::SignalResponse { message: Some(message) }, now);
        signal.token.0.clone()
    };
    signal.connect(1, now);
    signal.link_opened(now);
    let join = proto::JoinResponse { participant: Some(person(0, 0, 1)), ..Default::default() };
    assert_eq!(receive(&mut signal, Response::Join(join)), "jwt");
    assert_eq!(receive(&mut signal, Response::RefreshToken(String::new())), "jwt");
    assert_eq!(receive(&mut signal, Response::RefreshToken("new".into())), "new");
    let moved = proto::RoomMovedResponse { participant: Some(person(0, 0, 1)), ..Default::default() };
    assert_eq!(receive(&mut signal, Response::RoomMoved(moved)), "new");
}

#[test]
fn an_answer_before_the_list_proves_nothing_of_requests_on_the_old_link() {
    let mut now = Instant::now();
    let (mut signal, mut watched) = (signal(now), Watched::default());
    let is_heeded = |signal: &mut Signal, now: Instant| {
        let pong = proto::Pong { last_ping_timestamp: i64::MAX, timestamp: 0 };
        signal.receive(proto::SignalResponse { message: Some(Response::PongResp(pong)) }, now);
        let heeded = SignalOutput::Track(TrackNews::Heeded { before: now });
        std::iter::from_fn(|| signal.next_output()).any(|output| output == heeded)
    };
    signal.connect(1, now);
    signal.link_opened(now);
    let join = proto::JoinResponse { participant: Some(person(0, 0, 1)), ..Default::default() };
    signal.receive(proto::SignalResponse { message: Some(Response::Join(join)) }, now);
    signal.peer_ready(now);
    assert!(is_heeded(&mut signal, now));
    signal.link_lost("cut", now);
    pass(&mut signal, &mut watched, &mut now, Duration::from_secs(1));
    signal.link_opened(now);
    let back = Response::Reconnect(proto::ReconnectResponse::default());
    signal.receive(proto::SignalResponse { message: Some(back) }, now);
    assert!(!is_heeded(&mut signal, now));
    let list = proto::ParticipantUpdate { participants: vec![person(0, 0, 1)] };
    signal.receive(proto::SignalResponse { message: Some(Response::Update(list)) }, now);
    assert!(is_heeded(&mut signal, now));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn every_operation_ends_and_time_goes_on(inputs in inputs()) {
        let mut now = Instant::now();
        let mut signal = signal(now);
        let mut watched = Watched::default();
        for input in inputs {
            take(&mut signal, input, &mut watched, &mut now);
            watched.read(&mut signal);
        }
        // Nothing answers any more, so that the room is given up in the end.
        pass(&mut signal, &mut watched, &mut now, Duration::from_secs(1_000));
        prop_assert!(signal.is_out());
        prop_assert_eq!(watched.ended, watched.last_id);
        prop_assert_eq!(signal.wake_at(), None);
        prop_assert!(!watched.link);
    }
}

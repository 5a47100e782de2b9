mod client;

mod world;

mod addresses;
mod bounds;
mod happenings;
mod losses;
mod orders;
mod returns;
mod sound;
mod sound_bounds;
mod sound_choices;
mod sound_random;

mod second;

use std::collections::HashMap;
use std::time::Duration;

use livekit_protocol as proto;
use proto::DisconnectReason as Reason;
use proto::leave_request::Action;
use proto::participant_info::State;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;

use crate::room_host::member::LinkId;
use world::{World, caller};

const SHORT: Duration = Duration::from_secs(1);

/// The names of messages.
fn names(messages: &[Response]) -> Vec<&'static str> {
    let name = |message: &Response| match message {
        Response::Join(_) => "join",
        Response::Answer(_) => "answer",
        Response::Offer(_) => "offer",
        Response::Trickle(_) => "trickle",
        Response::Update(_) => "update",
        Response::RefreshToken(_) => "token",
        Response::Leave(_) => "leave",
        Response::Reconnect(_) => "reconnect",
        Response::RoomUpdate(_) => "room",
        Response::RequestResponse(_) => "response",
        Response::TrackPublished(_) => "track",
        Response::TrackUnpublished(_) => "unpublished",
        Response::TrackSubscribed(_) => "heard",
        Response::MediaSectionsRequirement(_) => "lines",
        Response::SpeakersChanged(_) => "speakers",
        Response::SubscriptionResponse(_) => "no track",
        Response::SubscriptionPermissionUpdate(_) => "audience",
        Response::Mute(_) => "mute",
        _ => "other",
    };
    messages.iter().map(name).collect()
}

/// The participants in updates: identity, state and reason.
fn updates(messages: &[Response]) -> Vec<(String, State, Reason)> {
    let infos = messages.iter().filter_map(|message| match message {
        Response::Update(update) => Some(update.participants.clone()),
        _ => None,
    });
    let of = |info: proto::ParticipantInfo| (info.identity.clone(), info.state(), info.disconnect_reason());
    infos.flatten().map(of).collect()
}

fn leave_of(messages: &[Response]) -> (Reason, Action) {
    let Some(Response::Leave(leave)) = messages.last() else { panic!("{:?}", names(messages)) };
    (leave.reason(), leave.action())
}

fn sid_of(messages: &[Response]) -> String {
    let Some(Response::Join(join)) = messages.first() else { panic!("{:?}", names(messages)) };
    join.participant.clone().unwrap().sid
}

fn known(reason: Reason) -> (String, State, Reason) {
    ("ann".into(), State::Disconnected, reason)
}

#[test]
fn new_participant_gets_the_join_first_and_is_active_once_data_flows() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let messages = world.take(ann);
    assert_eq!(names(&messages), ["join", "token", "answer", "trickle", "update", "room"]);
    let Response::Join(join) = &messages[0] else { panic!() };
    let own = join.participant.clone().unwrap();
    assert!(own.sid.starts_with("PA_") && own.permission.unwrap().can_publish_data);
    let server = join.server_info.clone().unwrap();
    assert_eq!((server.protocol, join.ping_interval, join.room.clone().unwrap().name.as_str()), (17, 5, "lobby"));
    assert_eq!(updates(&messages), [("ann".into(), State::Active, Reason::UnknownReason)]);
    let bob = world.joined("bob");
    let Response::Join(join) = &world.take(bob)[0] else { panic!() };
    assert_eq!(join.other_participants[0].identity, "ann");
    assert_eq!(join.room.clone().unwrap().num_participants, 2);
    let states = updates(&world.take(ann));
    let bob_is = |state| ("bob".to_owned(), state, Reason::UnknownReason);
    assert_eq!(states, [bob_is(State::Joined), bob_is(State::Active)]);
}

#[test]
fn packets_reach_the_others_once_with_the_name_of_their_sender() {
    let mut world = World::new();
    world.joined("ann");
    world.joined("bob");
    world.joined("cid");
    world.send("ann", "t", b"one".to_vec());
    assert!(world.send_numbered("ann", 1, "t", b"one again".to_vec()));
    assert!(world.send_numbered("ann", 5, "t", b"five".to_vec()));
    assert!(world.send_numbered("ann", 0, "lossy", b"lossy".to_vec()));
    world.run(SHORT);
    for other in ["bob", "cid"] {
        let mut texts = world.texts(other);
        texts.sort();
        assert_eq!(texts, ["five", "lossy", "one"].map(|text| ("ann".to_owned(), text.to_owned())), "{other}");
    }
    assert!(world.texts("ann").is_empty());
    let request = proto::SendDataRequest {
        data: b"api".to_vec(),
        destination_identities: vec!["cid".into()],
        ..Default::default()
    };
    world.room.send_data(request, world.now).unwrap();
    world.perform(None);
    world.run(SHORT);
    assert_eq!((world.texts("cid"), world.texts("bob")), (vec![(String::new(), "api".into())], Vec::new()));
}

#[test]
fn participant_without_the_permission_sends_nothing() {
    let mut world = World::new();
    let mut silent = caller("ann");
    silent.grants.can_publish_data = Some(false);
    world.joined_as(silent);
    world.joined("bob");
    world.send("ann", "t", b"hush".to_vec());
    world.run(SHORT);
    assert!(world.texts("bob").is_empty());
    // An administrator allows it.
    let permission = proto::ParticipantPermission { can_publish_data: true, ..Default::default() };
    let request =
        proto::UpdateParticipantRequest { identity: "ann".into(), permission: Some(permission), ..Default::default() };
    assert!(world.room.update_participant(&request, world.now).unwrap().unwrap().permission.unwrap().can_publish_data);
    world.perform(None);
    world.send("ann", "t", b"loud".to_vec());
    world.run(SHORT);
    assert_eq!(world.texts("bob"), [("ann".into(), "loud".into())]);
}

#[test]
fn hidden_participant_is_not_told_to_others() {
    let mut world = World::new();
    let ann = world.joined("ann");
    world.take(ann);
    let mut ghost = caller("ghost");
    ghost.grants.hidden = true;
    let link = world.joined_as(ghost);
    assert_eq!(updates(&world.take(link)).len(), 1, "it sees itself");
    world.send("ghost", "t", b"boo".to_vec());
    world.run(SHORT);
    assert_eq!(world.texts("ann"), [(String::new(), "boo".into())]);
    world.signal(link, Request::Leave(proto::LeaveRequest::default()));
    world.run(SHORT);
    assert!(updates(&world.take(ann)).is_empty());
    assert_eq!((world.room.participants().len(), world.occupants()), (1, 1));
}

#[test]
fn own_facts_change_within_their_bounds_and_permissions() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let mut strict = caller("bob");
    strict.grants.can_update_own_metadata = None;
    let bob = world.joined_as(strict);
    world.take(ann);
    world.take(bob);
    let update = |name: &str, value: String| proto::UpdateParticipantMetadata {
        name: name.into(),
        attributes: [("a".to_owned(), value), ("b".to_owned(), String::new())].into(),
        request_id: 7,
        ..Default::default()
    };
    let answer_of = |messages: &[Response]| {
        let answer = messages.iter().find_map(|message| match message {
            Response::RequestResponse(answer) => Some((answer.request_id, answer.reason().as_str_name())),
            _ => None,
        });
        answer.expect("an answer")
    };
    world.signal(ann, Request::UpdateMetadata(update("Ann", "1".into())));
    let messages = world.take(ann);
    assert_eq!(names(&messages), ["update", "token", "update", "token", "response"], "each kind of fact by itself");
    assert_eq!(answer_of(&messages), (7, "OK"));
    let messages = world.take(bob);
    let [Response::Update(named), Response::Update(seen)] = messages.as_slice() else { panic!("{messages:?}") };
    let (named, info) = (&named.participants[0], &seen.participants[0]);
    assert_eq!((named.name.as_str(), named.attributes.len()), ("Ann", 0));
    assert_eq!((info.name.as_str(), &info.attributes), ("Ann", &HashMap::from([("a".into(), "1".into())])));
    assert!(info.version > 1);
    world.signal(ann, Request::UpdateMetadata(update("Ann", "x".repeat(65 << 10))));
    assert_eq!(answer_of(&world.take(ann)), (7, "LIMIT_EXCEEDED"));
    world.signal(bob, Request::UpdateMetadata(update("Bob", "1".into())));
    assert_eq!(answer_of(&world.take(bob)), (7, "NOT_ALLOWED"));
    assert!(world.take(ann).is_empty());
    let request = |identity: &str| proto::UpdateParticipantRequest {
        identity: identity.into(),
        metadata: "m".into(),
        ..Default::default()
    };
    assert_eq!(world.room.update_participant(&request("bob"), world.now).unwrap().unwrap().metadata, "m");
    assert_eq!(world.room.update_participant(&request("nobody"), world.now), None);
}

#[test]
fn messages_of_unknown_links_and_about_media_change_nothing() {
    let mut world = World::new();
    let ann = world.joined("ann");
    world.take(ann);
    world.signal(LinkId(99), Request::Leave(proto::LeaveRequest::default()));
    world.lose_link(LinkId(99));
    world.signal(ann, Request::Trickle(proto::TrickleRequest::default()));
    world.signal(ann, Request::Mute(proto::MuteTrackRequest::default()));
    assert!(world.take(ann).is_empty());
    world.signal(ann, Request::AddTrack(proto::AddTrackRequest { cid: "c".into(), ..Default::default() }));
    world.signal(ann, Request::PingReq(proto::Ping { timestamp: 5, rtt: 0 }));
    let messages = world.take(ann);
    let [Response::TrackPublished(track), Response::PongResp(pong)] = messages.as_slice() else { panic!() };
    assert_eq!((track.cid.as_str(), pong.last_ping_timestamp), ("c", 5));
    // A token before the former one is over.
    world.run(Duration::from_secs(301));
    assert!(names(&world.take(ann)).contains(&"token"));
}

#[test]
fn number_of_participants_is_told_once_for_several_changes() {
    let mut world = World::new();
    let ann = world.joined("ann");
    world.take(ann);
    let numbers = |messages: Vec<Response>| -> Vec<u32> {
        let number = |message: Response| match message {
            Response::RoomUpdate(update) => Some(update.room.unwrap().num_participants),
            _ => None,
        };
        messages.into_iter().filter_map(number).collect()
    };
    let bob = world.enter(caller("bob"), proto::JoinRequest::default()).unwrap();
    world.enter(caller("cid"), proto::JoinRequest::default()).unwrap();
    world.signal(bob, Request::Leave(proto::LeaveRequest::default()));
    world.run(Duration::from_millis(900));
    assert!(numbers(world.take(ann)).is_empty());
    world.run(SHORT);
    assert_eq!(numbers(world.take(ann)), [2]);
    world.enter(caller("bob"), proto::JoinRequest::default()).unwrap();
    assert!(world.room.remove_participant("bob", world.now));
    world.perform(None);
    world.run(SHORT * 2);
    assert!(numbers(world.take(ann)).is_empty(), "it is the same number again");
}

#[test]
#[expect(deprecated, reason = "older clients read these two fields")]
fn permission_of_the_api_changes_what_is_allowed_and_not_what_somebody_is() {
    let mut world = World::new();
    let mut recorder = caller("ann");
    (recorder.grants.recorder, recorder.grants.hidden) = (true, true);
    recorder.person.kind = "agent".into();
    world.enter(recorder, proto::JoinRequest::default()).unwrap();
    let camera = proto::TrackSource::Camera as i32;
    let permission = proto::ParticipantPermission {
        can_subscribe: true,
        can_publish_sources: vec![camera, camera, 77],
        ..Default::default()
    };
    let request =
        proto::UpdateParticipantRequest { identity: "ann".into(), permission: Some(permission), ..Default::default() };
    let permission = world.room.update_participant(&request, world.now).unwrap().unwrap().permission.unwrap();
    assert!(permission.hidden && permission.recorder && permission.agent && permission.can_subscribe);
    assert!(!permission.can_publish && !permission.can_publish_data);
    assert_eq!(permission.can_publish_sources, [camera]);
    let grants = &world.room.members.values().next().unwrap().caller.grants;
    assert!(grants.recorder && grants.can_publish_sources == ["camera"]);
}

//! The bounds of a room, and who is hurt by one that is reached.

use prost::Message as _;

use super::*;
use crate::room_host::limits::{MEMBERS_MAX, RESUME_WITHIN, TRACKS_MAX};
use crate::room_host::room::{FactsError, Refusal};

#[test]
fn offer_that_cannot_be_used_ends_only_its_sender() {
    let mut world = World::new();
    world.joined("bob");
    let lines = format!("v=0\r\n{}", "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(100));
    let long = "a".repeat(300 << 10);
    for sdp in ["", "v=0", "garbage", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", &lines, &long] {
        let offer = proto::SessionDescription { sdp: sdp.into(), id: 1, ..Default::default() };
        let request = proto::JoinRequest { publisher_offer: Some(offer.clone()), ..Default::default() };
        let link = world.enter(caller("ann"), request).unwrap();
        assert_eq!(leave_of(&world.take(link)), (Reason::JoinFailure, Action::Disconnect), "{sdp:.20}");
        let link = world.joined("ann");
        world.signal(link, Request::Offer(offer));
        assert_eq!(leave_of(&world.take(link)), (Reason::StateMismatch, Action::Reconnect), "{sdp:.20}");
    }
    world.joined("ann");
    world.send("ann", "t", b"still here".to_vec());
    world.run(SHORT);
    assert_eq!(world.texts("bob"), [("ann".into(), "still here".into())]);
}

#[test]
fn slow_participant_loses_its_place_and_others_lose_nothing() {
    let mut world = World::new();
    let ann = world.joined("ann");
    world.joined("bob");
    world.joined("cid");
    world.take(ann);
    world.cut("cid", true);
    let (mut sent, began) = (0, world.now.at);
    while world.occupants() == 3 {
        match world.try_send("ann", "t", vec![b'x'; 60_000]) {
            true => sent += 1,
            false => world.run(Duration::from_millis(10)),
        }
        assert!(sent < 1_000, "the outbox has no bound");
    }
    assert!(world.now.at < began + RESUME_WITHIN, "its path is still taken for good");
    world.run(Duration::from_millis(250));
    assert_eq!(updates(&world.take(ann)), [("cid".into(), State::Disconnected, Reason::ConnectionTimeout)]);
    world.run(SHORT * 5);
    assert_eq!(world.texts("bob").len(), sent);
}

#[test]
fn lossy_packets_are_lost_first() {
    let mut world = World::new();
    world.joined("ann");
    let request = |kind: proto::data_packet::Kind, data: Vec<u8>| proto::SendDataRequest {
        kind: kind as i32,
        data,
        ..Default::default()
    };
    let lossy = |text: &str| request(proto::data_packet::Kind::Lossy, text.into());
    world.room.send_data(lossy("in time"), world.now).unwrap();
    // What the peer takes at once, and one that waits.
    for _ in 0..5 {
        world.room.send_data(request(proto::data_packet::Kind::Reliable, vec![b'x'; 60_000]), world.now).unwrap();
    }
    world.room.send_data(lossy("too late"), world.now).unwrap();
    world.perform(None);
    world.run(SHORT * 5);
    let texts = world.texts("ann");
    assert_eq!(texts.iter().filter(|(_, text)| text.len() == 60_000).count(), 5);
    let small: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).filter(|text| text.len() < 100).collect();
    assert_eq!(small, ["in time"]);
}

#[test]
fn those_who_may_not_enter_are_refused() {
    let mut world = World::with(proto::Room { max_participants: 2, ..Default::default() });
    let mut strict = caller("ann");
    strict.grants.can_update_own_metadata = None;
    let attributes = [("a".to_owned(), "1".to_owned())].into();
    let request = proto::JoinRequest { participant_attributes: attributes, ..Default::default() };
    assert_eq!(world.enter(strict, request.clone()).unwrap_err(), Refusal::OwnMetadata);
    let long = proto::JoinRequest { metadata: "x".repeat(65 << 10), ..Default::default() };
    assert_eq!(world.enter(caller("ann"), long).unwrap_err(), Refusal::Facts(FactsError::Metadata));
    assert!(world.enter(caller("ann"), request.clone()).is_ok() && world.enter(caller("bob"), request).is_ok());
    assert_eq!(world.enter(caller("cid"), Default::default()).unwrap_err(), Refusal::Full(2));
    assert!(world.enter(caller("ann"), Default::default()).is_ok(), "its own place is free");
    let mut world = World::new();
    let enter = |world: &mut World, number: usize, metadata: usize| {
        let request = proto::JoinRequest { metadata: "x".repeat(metadata), ..Default::default() };
        world.enter(caller(&number.to_string()), request)
    };
    let full = (0..MEMBERS_MAX).map(|number| enter(&mut world, number, 64 << 10)).find_map(Result::err);
    assert_eq!(full, Some(Refusal::Facts(FactsError::Room)));
    assert!(enter(&mut world, 0, 64 << 10).is_ok(), "its own space is free");
    let full = (0..=MEMBERS_MAX).map(|number| enter(&mut world, number, 0)).find_map(Result::err);
    assert_eq!(full, Some(Refusal::Full(MEMBERS_MAX)));
}

#[test]
fn agents_take_no_place_of_people() {
    let mut world = World::with(proto::Room { name: "lobby".into(), max_participants: 1, ..Default::default() });
    let agent = |identity: &str| {
        let mut caller = caller(identity);
        caller.person.kind = "agent".into();
        caller
    };
    let mut recorder = caller("recorder");
    recorder.grants.recorder = true;
    for caller in [agent("one"), agent("two"), recorder, caller("ann")] {
        assert!(world.enter(caller, Default::default()).is_ok());
    }
    assert_eq!(world.enter(caller("bob"), Default::default()).unwrap_err(), Refusal::Full(1));
    let link = world.enter(agent("three"), Default::default()).unwrap();
    let Response::Join(join) = &world.take(link)[0] else { panic!() };
    assert_eq!(join.room.clone().unwrap().num_participants, 1);
    assert_eq!((world.room.people(), world.occupants()), (1, 5));
    assert!(world.room.remove_participant("ann", world.now));
    world.perform(None);
    assert_eq!((world.room.people(), world.occupants()), (0, 4));
}

#[test]
fn facts_of_a_client_and_its_tracks_are_bounded() {
    let mut world = World::new();
    let capabilities = [vec![99; 1_000], vec![2, 1, 1, 2]].concat();
    let client_info = Some(proto::ClientInfo { client_protocol: 1, capabilities, ..Default::default() });
    let track = |number: usize| proto::AddTrackRequest { cid: number.to_string(), ..Default::default() };
    let tracks = |count| (0..count).map(track).collect();
    let request = |count| proto::JoinRequest {
        client_info: client_info.clone(),
        add_track_requests: tracks(count),
        ..Default::default()
    };
    let refused = world.enter(caller("ann"), request(TRACKS_MAX + 1)).unwrap_err();
    assert_eq!(refused, Refusal::Tracks(TRACKS_MAX + 1));
    let link = world.enter(caller("ann"), request(TRACKS_MAX)).unwrap();
    let messages = world.take(link);
    assert_eq!(names(&messages).iter().filter(|name| **name == "track").count(), TRACKS_MAX);
    let info = &world.room.participants()[0];
    assert_eq!((info.client_protocol, info.capabilities.as_slice()), (1, &[1, 2][..]));
}

#[test]
fn participant_that_changes_all_the_time_is_told_about_now_and_then() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    let bytes = |messages: &[Response]| {
        messages
            .iter()
            .map(|message| match message {
                Response::Update(update) => update.encoded_len(),
                _ => 0,
            })
            .sum::<usize>()
    };
    world.take(bob);
    let update =
        |number: usize| proto::UpdateParticipantMetadata { metadata: format!("{number:060000}"), ..Default::default() };
    for number in 0..500 {
        world.signal(ann, Request::UpdateMetadata(update(number)));
        world.run(Duration::from_millis(20));
    }
    world.run(SHORT * 3);
    let messages = world.take(bob);
    // Four seconds at once, and those of the time since.
    assert!((512 << 10..=1 << 20).contains(&bytes(&messages)), "{}", bytes(&messages));
    let Some(Response::Update(last)) = messages.iter().rfind(|message| matches!(message, Response::Update(_))) else {
        panic!()
    };
    assert!(last.participants[0].metadata.ends_with("499"), "the last state is told");
    // Afterwards a change is told at once again.
    world.run(SHORT * 5);
    world.signal(ann, Request::UpdateMetadata(update(1)));
    assert_eq!(names(&world.take(bob)), ["update"]);
}

#[test]
fn audience_that_changes_all_the_time_is_told_now_and_then() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    world.publish("ann", ann, &["voice"]);
    world.listen("bob", bob, 1);
    world.take(bob);
    let audience = |all_participants| {
        let track_permissions = Vec::new();
        Request::SubscriptionPermission(proto::SubscriptionPermission { all_participants, track_permissions })
    };
    let mut told = 0;
    for number in 0..500 {
        world.signal(ann, audience(number % 2 == 1));
        world.run(Duration::from_millis(10));
        told += names(&world.take(bob)).iter().filter(|name| **name == "audience").count();
    }
    // Four seconds at once, and those of five seconds.
    assert!((10..=16 + 20).contains(&told), "{told}");
    world.signal(ann, audience(false));
    world.speak("ann", 3);
    assert!(world.heard("bob").is_empty(), "it counts before it is told");
    world.signal(ann, audience(true));
    world.run(SHORT);
    let messages = world.take(bob);
    let last = messages.iter().rev().find_map(|message| match message {
        Response::SubscriptionPermissionUpdate(update) => Some(update.allowed),
        _ => None,
    });
    assert_ne!(last, Some(false), "{:?}", names(&messages));
    world.listen("bob", bob, 0);
    world.run(SHORT);
    world.listen("bob", bob, 0);
    world.speak("ann", 2);
    assert_eq!(world.heard("bob"), [0, 1]);
}

#[test]
fn client_that_opens_too_many_channels_is_put_out() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    world.client("bob").open_channels(3);
    world.client("ann").open_channels(30);
    world.run(SHORT * 5);
    assert_eq!(leave_of(&world.take(ann)), (Reason::ConnectionTimeout, Action::Reconnect));
    assert!(!world.closed.contains(&bob));
}

#[test]
fn client_whose_channels_do_not_open_leaves_in_time() {
    let mut world = World::new();
    let ann = world.joined_with(caller("ann"), ["one", "two"]);
    world.run(Duration::from_secs(27));
    assert!(!world.closed.contains(&ann));
    world.run(SHORT * 2);
    assert_eq!(leave_of(&world.take(ann)), (Reason::JoinFailure, Action::Reconnect));
}

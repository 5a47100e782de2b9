//! What observers are told of a room.

use serde_json::json;
use wasm_worker_core::event::{HostedEvent, HostedKind};

use super::*;

/// What was told since the last call: the kind, the participant, and whether it is about this track.
fn told(world: &mut World, track: &str) -> Vec<(HostedKind, String, bool)> {
    let events = std::mem::take(&mut world.events).into_iter();
    events.map(|event| (event.kind, event.participant.unwrap(), event.track.as_deref() == Some(track))).collect()
}

#[test]
fn participants_and_tracks_are_told_once_they_are_there_and_once_they_are_gone() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let is = |kind, is_track| (kind, "ann".to_owned(), is_track);
    assert_eq!(told(&mut world, ""), [is(HostedKind::ParticipantJoined, false)]);
    let sid = world.publish("ann", ann, &["voice"]).remove(0);
    assert_eq!(told(&mut world, &sid), [is(HostedKind::TrackPublished, true)]);
    world.lose_link(ann);
    let participant = world.room.participants()[0].sid.clone();
    let ann = world.resume("ann", &participant);
    assert!(world.events.is_empty(), "a return is no arrival");
    world.signal(ann, Request::Leave(proto::LeaveRequest::default()));
    let last = world.events.last().unwrap();
    let (facts, room) = (last.livekit.participant.clone().unwrap(), &last.livekit.room);
    let details = facts.details.unwrap();
    assert_eq!((details.state, details.disconnect_reason), ("DISCONNECTED", "CLIENT_INITIATED"));
    assert_eq!(facts.sid, participant);
    assert_eq!((room.sid.as_str(), room.name.as_str(), last.room.as_str()), ("RM_1", "lobby", "lobby"));
    let expected = [is(HostedKind::TrackUnpublished, true), is(HostedKind::ParticipantLeft, false)];
    assert_eq!(told(&mut world, &sid), expected);
    // Somebody who was never there.
    let link = world.enter(caller("bob"), proto::JoinRequest::default()).unwrap();
    world.signal(link, Request::Leave(proto::LeaveRequest::default()));
    assert!(world.events.is_empty());
}

#[test]
fn end_of_a_room_tells_of_all_who_were_there() {
    let mut world = World::new();
    world.joined("ann");
    world.joined("bob");
    told(&mut world, "");
    world.room.close(Reason::RoomDeleted, world.now);
    world.perform(None);
    let mut left: Vec<String> = told(&mut world, "").into_iter().map(|(_, identity, _)| identity).collect();
    left.sort();
    assert_eq!(left, ["ann", "bob"]);
}

#[test]
fn participant_that_publishes_all_the_time_floods_no_observer() {
    let mut world = World::new();
    let ann = world.joined("ann");
    told(&mut world, "");
    for number in 0..25_u32 {
        world.publish("ann", ann, &[&number.to_string()]);
        let mid = world.client("ann").sending[0];
        let offer = world.client("ann").stop_sending(mid);
        world.negotiate("ann", ann, offer);
    }
    let kinds: Vec<HostedKind> = told(&mut world, "").into_iter().map(|(kind, ..)| kind).collect();
    // Eight seconds at once, and those of the time since then.
    let began = kinds.iter().filter(|kind| **kind == HostedKind::TrackPublished).count();
    assert!((16..=16 + 4).contains(&began), "{began}");
    assert_eq!(kinds.len(), 2 * began, "each has its end");
}

#[test]
fn events_have_no_texts_that_would_take_the_place_of_others() {
    let long = "x".repeat(32 << 10);
    let mut world = World::with(proto::Room {
        name: "lobby".into(),
        sid: "RM_1".into(),
        metadata: "m".into(),
        ..Default::default()
    });
    let ann = world.joined("ann");
    world.publish("ann", ann, &["voice"]);
    let metadata = proto::UpdateParticipantMetadata { metadata: long.clone(), ..Default::default() };
    world.signal(ann, Request::UpdateMetadata(metadata));
    world.publish("ann", ann, &["second"]);
    world.signal(ann, Request::Leave(proto::LeaveRequest::default()));
    let facts = |event: &HostedEvent| serde_json::to_value(&event.livekit).unwrap();
    let all: Vec<serde_json::Value> = world.events.iter().map(facts).collect();
    assert_eq!(all.len(), 6);
    assert!(all.iter().all(|facts| facts.to_string().len() < 1_000), "{all:?}");
    let (joined, published, left) = (&all[0], &all[1], &all[5]);
    assert_eq!((&joined["participant"]["metadata"], &joined["room"]["metadata"]), (&json!(""), &json!("m")));
    assert!(joined["participant"]["attributes"].is_object());
    assert_eq!(published["room"], json!({ "sid": "RM_1", "name": "lobby" }));
    assert_eq!(published["participant"], json!({ "sid": joined["participant"]["sid"], "identity": "ann" }));
    assert_eq!(left["participant"]["state"], "DISCONNECTED");
    assert!(left["participant"].get("metadata").is_none() && left["participant"].get("attributes").is_none());
}

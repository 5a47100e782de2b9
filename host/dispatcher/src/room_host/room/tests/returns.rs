//! What somebody that comes back is told again.

use super::*;
use crate::room_host::limits::RESUME_WITHIN;

#[test]
fn whoever_comes_back_is_told_again_what_it_missed() {
    let mut world = World::new();
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|identity| world.joined(identity));
    let (ann_sid, bob_sid) = (sid_of(&world.take(ann)), sid_of(&world.take(bob)));
    let voice = world.publish("ann", ann, &["voice"]).remove(0);
    let cids = world.publish("cid", cid, &["voice"]).remove(0);
    world.listen("bob", bob, 2);
    // Much later nothing of this is new.
    world.run(RESUME_WITHIN * 2);
    world.signal(ann, Request::AddTrack(proto::AddTrackRequest { cid: "second".into(), ..Default::default() }));
    world.speak("cid", 60);
    world.take(ann);
    world.lose_link(ann);
    world.lose_link(bob);
    world.mute("ann", &voice, true).unwrap();
    let nobody = proto::SubscriptionPermission::default();
    world.signal(cid, Request::SubscriptionPermission(nobody));
    world.run(SHORT * 2);
    let again = world.resume("ann", &ann_sid);
    let messages = world.take(again);
    let expected = ["reconnect", "track", "mute", "update", "room", "audience", "speakers", "token"];
    assert_eq!(names(&messages), expected);
    let Response::TrackPublished(published) = &messages[1] else { panic!() };
    assert_eq!(published.cid, "second");
    let Response::Mute(mute) = &messages[2] else { panic!() };
    assert_eq!((&mute.sid, mute.muted), (&voice, true));
    let again = world.resume("bob", &bob_sid);
    let messages = world.take(again);
    assert_eq!(names(&messages)[..5], ["reconnect", "update", "room", "audience", "speakers"]);
    let Response::SubscriptionPermissionUpdate(update) = &messages[3] else { panic!() };
    assert_eq!((&update.track_sid, update.allowed), (&cids, false));
    let Response::SpeakersChanged(changed) = &messages[4] else { panic!() };
    assert!(!changed.speakers[0].active, "cid is silent meanwhile");
}

#[test]
fn mute_of_another_is_told_again_until_the_client_knows() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let sid = sid_of(&world.take(ann));
    let voice = world.publish("ann", ann, &["voice"]).remove(0);
    world.mute("ann", &voice, true).unwrap();
    let again = world.resume("ann", &sid);
    assert!(names(&world.take(again)).contains(&"mute"));
    world.signal(again, Request::Mute(proto::MuteTrackRequest { sid: voice, muted: true }));
    let again = world.resume("ann", &sid);
    assert!(!names(&world.take(again)).contains(&"mute"));
}

#[test]
fn first_listener_is_told_again() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    let sid = sid_of(&world.take(ann));
    world.publish("ann", ann, &["voice"]);
    world.lose_link(ann);
    world.listen("bob", bob, 1);
    let again = world.resume("ann", &sid);
    assert!(names(&world.take(again)).contains(&"heard"));
    world.run(RESUME_WITHIN * 2 + SHORT);
    let again = world.resume("ann", &sid);
    assert!(!names(&world.take(again)).contains(&"heard"));
}

#[test]
fn permission_that_changes_while_somebody_is_away_is_told_when_it_is_back() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let sid = sid_of(&world.take(ann));
    let voice = world.publish("ann", ann, &["voice"]).remove(0);
    world.lose_link(ann);
    let permission = proto::ParticipantPermission { can_subscribe: true, ..Default::default() };
    let request =
        proto::UpdateParticipantRequest { identity: "ann".into(), permission: Some(permission), ..Default::default() };
    world.room.update_participant(&request, world.now).unwrap().unwrap();
    world.perform(None);
    // With the newest token that it got.
    let again = world.resume("ann", &sid);
    let messages = world.take(again);
    assert_eq!(names(&messages), ["reconnect", "unpublished", "update", "room", "token"]);
    let Response::TrackUnpublished(over) = &messages[1] else { panic!() };
    assert_eq!(over.track_sid, voice);
    let Response::Update(update) = &messages[2] else { panic!() };
    assert!(!update.participants[0].permission.clone().unwrap().can_publish_data, "what it may by now");
    // Its client names the track before it hears that it is over.
    let track = Some(proto::TrackInfo { sid: voice, ..Default::default() });
    let publish_tracks = vec![proto::TrackPublishedResponse { cid: "voice".into(), track }];
    world.signal(again, Request::SyncState(proto::SyncState { publish_tracks, ..Default::default() }));
    assert!(!world.closed.contains(&again));
    // By now it has a newer one.
    let link = world.resume("ann", &sid);
    assert_eq!(leave_of(&world.take(link)), (Reason::StateMismatch, Action::Reconnect));
}

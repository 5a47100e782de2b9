//! Sound: what participants choose, what they may, and who speaks.

use super::sound::{PAUSE, asked, asks, tracks_of};
use super::*;

#[test]
fn participants_choose_what_they_hear() {
    let mut world = World::new();
    let ann = world.joined("ann");
    let sid = world.publish("ann", ann, &["voice"]).remove(0);
    let bob = world.joined("bob");
    let choose = |sid: &str, subscribe| {
        let track_sids = vec![sid.to_owned()];
        Request::Subscription(proto::UpdateSubscription { track_sids, subscribe, participant_tracks: Vec::new() })
    };
    world.signal(bob, choose(&sid, false));
    world.take(bob);
    assert!(world.listen("bob", bob, 1).is_empty() && asks(&mut world, bob).is_empty());
    world.signal(bob, choose("TR_other", true));
    world.signal(bob, choose("TR_other", false));
    assert_eq!(names(&world.take(bob)), ["no track"]);
    world.signal(bob, choose(&sid, true));
    assert_eq!(asks(&mut world, bob), [0]);
    assert_eq!(world.listen("bob", bob, 0).len(), 1);
    world.speak("ann", 1);
    assert_eq!(world.heard("bob"), [0]);
    // Without an offer of the client it may be silent at once.
    let setting = |disabled| {
        let track_sids = vec![sid.clone()];
        Request::TrackSetting(proto::UpdateTrackSettings { track_sids, disabled, ..Default::default() })
    };
    world.signal(bob, setting(true));
    world.speak("ann", 2);
    assert!(world.heard("bob").is_empty());
    world.signal(bob, setting(false));
    world.speak("ann", 1);
    assert_eq!(world.heard("bob"), [0]);
    // A caller of the API chooses too.
    let request = |identity: &str| proto::UpdateSubscriptionsRequest {
        identity: identity.into(),
        participant_tracks: vec![proto::ParticipantTracks { track_sids: vec![sid.clone()], ..Default::default() }],
        ..Default::default()
    };
    assert!(world.room.subscribe(request("bob")) && !world.room.subscribe(request("cid")));
    world.perform(None);
    world.speak("ann", 2);
    assert!(world.heard("bob").is_empty());
}

#[test]
fn video_and_what_the_token_forbids_is_refused() {
    let mut world = World::new();
    let mut strict = caller("ann");
    strict.grants.can_publish_sources = vec!["screen_share_audio".into()];
    let ann = world.joined_as(strict);
    world.take(ann);
    let mut refusal = |r#type: proto::TrackType, source: proto::TrackSource| {
        let (r#type, source) = (r#type as i32, source as i32);
        let request = proto::AddTrackRequest { cid: "c".into(), r#type, source, ..Default::default() };
        world.signal(ann, Request::AddTrack(request));
        match &world.take(ann)[..] {
            [Response::RequestResponse(refusal)] => Some(refusal.reason().as_str_name()),
            [Response::TrackPublished(_)] => None,
            other => panic!("{:?}", names(other)),
        }
    };
    let (video, audio) = (proto::TrackType::Video, proto::TrackType::Audio);
    assert_eq!(refusal(video, proto::TrackSource::Camera), Some("UNSUPPORTED_TYPE"));
    assert_eq!(refusal(audio, proto::TrackSource::Microphone), Some("NOT_ALLOWED"));
    assert_eq!(refusal(audio, proto::TrackSource::ScreenShareAudio), None);
    world.signal(ann, Request::PublishDataTrackRequest(proto::PublishDataTrackRequest::default()));
    let [Response::RequestResponse(refusal)] = &world.take(ann)[..] else { panic!() };
    assert_eq!(refusal.reason().as_str_name(), "UNSUPPORTED_TYPE");
}

#[test]
fn permissions_that_are_taken_away_end_tracks_and_lines() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    world.publish("ann", ann, &["voice"]);
    world.listen("bob", bob, 1);
    let permit = |world: &mut World, identity: &str, can_publish, can_subscribe| {
        let permission = proto::ParticipantPermission { can_publish, can_subscribe, ..Default::default() };
        let (identity, permission) = (identity.to_owned(), Some(permission));
        let request = proto::UpdateParticipantRequest { identity, permission, ..Default::default() };
        world.room.update_participant(&request, world.now).unwrap().unwrap();
        world.perform(None);
    };
    permit(&mut world, "bob", true, false);
    world.speak("ann", 2);
    assert!(world.heard("bob").is_empty());
    permit(&mut world, "bob", true, true);
    assert!(world.listen("bob", bob, 0).is_empty());
    assert_eq!(world.listen("bob", bob, 0).len(), 1);
    world.speak("ann", 2);
    assert_eq!(world.heard("bob"), [0, 1]);
    for link in [ann, bob] {
        world.take(link);
    }
    permit(&mut world, "ann", false, true);
    assert!(names(&world.take(ann)).contains(&"unpublished"));
    assert_eq!(tracks_of(&world.take(bob), "ann"), Some(vec![]));
    world.speak("ann", 2);
    assert!(world.heard("bob").is_empty());
}

#[test]
fn publisher_says_who_hears_it() {
    let mut world = World::new();
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(|identity| world.joined(identity));
    world.publish("ann", ann, &["voice"]);
    world.listen("bob", bob, 1);
    world.listen("cid", cid, 1);
    world.run(PAUSE);
    for link in [bob, cid] {
        world.take(link);
    }
    let permission = |all_participants, identity: &str| {
        let (participant_identity, all_tracks) = (identity.to_owned(), true);
        let one = proto::TrackPermission { participant_identity, all_tracks, ..Default::default() };
        Request::SubscriptionPermission(proto::SubscriptionPermission {
            all_participants,
            track_permissions: vec![one],
        })
    };
    world.signal(ann, permission(false, "bob"));
    world.speak("ann", 1);
    assert_eq!((world.heard("bob"), world.heard("cid")), (vec![0], vec![]));
    assert_eq!(
        (names(&world.take(cid))[..2].to_vec(), names(&world.take(bob)).contains(&"audience")),
        (vec!["audience", "lines"], false)
    );
    world.signal(ann, permission(true, ""));
    assert!(world.listen("cid", cid, 0).is_empty());
    assert_eq!(world.listen("cid", cid, 0).len(), 1);
    world.speak("ann", 1);
    assert_eq!((world.heard("bob"), world.heard("cid")), (vec![0], vec![0]));
}

#[test]
fn audience_that_goes_to_and_fro_before_it_is_told_leaves_nobody_deaf() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    world.publish("ann", ann, &["voice"]);
    world.listen("bob", bob, 1);
    world.run(PAUSE);
    world.take(bob);
    let audience = |all_participants| {
        let track_permissions = Vec::new();
        Request::SubscriptionPermission(proto::SubscriptionPermission { all_participants, track_permissions })
    };
    // As many words as are told at once.
    (0..20).for_each(|_| world.signal(ann, audience(true)));
    world.signal(ann, audience(false));
    world.signal(ann, audience(true));
    assert!(world.take(bob).is_empty());
    world.run(SHORT);
    assert_eq!(names(&world.take(bob)), ["lines"], "the audience is as it was told");
    assert!(world.listen("bob", bob, 0).is_empty(), "the line becomes free");
    assert_eq!(asks(&mut world, bob), [0]);
    assert_eq!(world.listen("bob", bob, 0).len(), 1);
    world.speak("ann", 2);
    assert_eq!(world.heard("bob"), [0, 1]);
}

#[test]
fn speakers_are_told_when_they_begin_and_when_they_end() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    let sid = sid_of(&world.take(ann));
    world.publish("ann", ann, &["voice"]);
    let speakers = |messages: Vec<Response>| -> Vec<(String, bool)> {
        let of = |message: Response| match message {
            Response::SpeakersChanged(changed) => Some(changed.speakers),
            _ => None,
        };
        messages.into_iter().filter_map(of).flatten().map(|speaker| (speaker.sid, speaker.active)).collect()
    };
    world.take(bob);
    world.speak("ann", 60);
    assert_eq!(speakers(world.take(bob)), [(sid.clone(), true)], "the level stays");
    world.run(SHORT);
    assert_eq!(speakers(world.take(bob)), [(sid, false)]);
    world.run(SHORT * 3);
    assert!(world.take(bob).is_empty());
}

#[test]
fn departure_without_a_track_asks_nobody_for_lines() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    world.publish("ann", ann, &["voice"]);
    // Bob adds no lines, and is asked a few times.
    for _ in 0..10 {
        if !asks(&mut world, bob).is_empty() {
            let offer = world.client("bob").restart();
            world.negotiate("bob", bob, offer);
        }
    }
    assert!(asks(&mut world, bob).is_empty());
    let cid = world.joined("cid");
    world.signal(cid, Request::AddTrack(proto::AddTrackRequest { cid: "announced".into(), ..Default::default() }));
    world.signal(cid, Request::Leave(proto::LeaveRequest::default()));
    assert!(asks(&mut world, bob).is_empty(), "nothing is new for it");
}

#[test]
fn tracks_that_come_and_go_keep_no_client_busy() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    world.publish("ann", ann, &["voice"]);
    world.listen("bob", bob, 1);
    world.take(bob);
    let mut asks = 0;
    let began = world.now.at;
    for number in 0..40_u32 {
        let mid = world.client("ann").sending[0];
        let offer = world.client("ann").stop_sending(mid);
        world.negotiate("ann", ann, offer);
        world.publish("ann", ann, &[&number.to_string()]);
        if !asked(&world.take(bob)).is_empty() {
            asks += 1;
            world.listen("bob", bob, 0);
        }
    }
    let most = (world.now.at - began).as_millis() / 250 + 1;
    assert!(asks > 1 && asks <= most, "{asks} of {most}");
    // In the end it hears what is there.
    for _ in 0..3 {
        world.run(PAUSE);
        world.listen("bob", bob, 0);
    }
    world.speak("ann", 3);
    assert_eq!(world.heard("bob"), [0, 1, 2]);
}

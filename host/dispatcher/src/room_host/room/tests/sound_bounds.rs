//! Sound: losses, returns, and what hostile participants send.

use super::sound::{LOUD, PAUSE};
use super::*;
use crate::room_host::limits::{ROOM_TRACKS_MAX, SUBSCRIPTIONS_MAX, TRACKS_MAX};
use crate::room_host::member::{PeerId, Side};
use crate::room_host::sdp::{Flow, SoundLine};
use crate::room_host::tracks::Track;

/// Ann, whom bob hears. Returns their links and the sid of the track.
fn ann_speaks_to_bob() -> (World, LinkId, LinkId, String) {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    let sid = world.publish("ann", ann, &["voice"]).remove(0);
    world.listen("bob", bob, 1);
    (world, ann, bob, sid)
}

#[test]
fn listener_without_a_path_slows_nobody_and_hears_what_is_new_when_it_is_back() {
    let (mut world, _, bob, _) = ann_speaks_to_bob();
    let cid = world.joined("cid");
    world.listen("cid", cid, 1);
    let sid = sid_of(&world.take(bob));
    world.cut("bob", true);
    for _ in 0..10 {
        world.speak("ann", 100);
        assert_eq!(world.heard("cid").len(), 100);
    }
    assert_eq!(leave_of(&world.take(bob)), (Reason::ConnectionTimeout, Action::Resume));
    world.cut("bob", false);
    let again = world.resume("bob", &sid);
    let offer = world.client("bob").restart();
    world.negotiate("bob", again, offer);
    world.run(SHORT * 3);
    assert!(world.heard("bob").is_empty(), "nothing was kept for it");
    world.speak("ann", 20);
    assert_eq!(world.heard("bob"), (0..20).collect::<Vec<u8>>());
}

#[test]
fn tracks_and_lines_outlast_a_lost_link() {
    let (mut world, ann, bob, track) = ann_speaks_to_bob();
    let sids: Vec<String> = world.room.participants().into_iter().map(|info| info.sid).collect();
    for link in [ann, bob] {
        world.take(link);
        world.lose_link(link);
    }
    world.speak("ann", 5);
    assert_eq!(world.heard("bob"), [0, 1, 2, 3, 4]);
    let (ann, bob) = (world.resume("ann", &sids[0]), world.resume("bob", &sids[1]));
    let state = |sid: &str| {
        let track = Some(proto::TrackInfo { sid: sid.into(), ..Default::default() });
        let publish_tracks = vec![proto::TrackPublishedResponse { cid: "voice".into(), track }];
        Request::SyncState(proto::SyncState { publish_tracks, ..Default::default() })
    };
    world.signal(ann, state(&track));
    let subscription = proto::UpdateSubscription { track_sids: vec![track], subscribe: false, ..Default::default() };
    let choice = proto::SyncState { subscription: Some(subscription), ..Default::default() };
    world.speak("ann", 2);
    assert_eq!(world.heard("bob"), [0, 1]);
    world.signal(bob, Request::SyncState(choice));
    world.speak("ann", 2);
    assert!(world.heard("bob").is_empty());
    assert!(!world.closed.contains(&ann) && !world.closed.contains(&bob));
    // One that publishes what the room does not know begins anew.
    world.signal(ann, state("TR_other"));
    assert_eq!(leave_of(&world.take(ann)), (Reason::StateMismatch, Action::Reconnect));
}

#[test]
fn request_for_lines_that_a_lost_link_swallowed_comes_again() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    let sid = sid_of(&world.take(bob));
    world.lose_link(bob);
    world.publish("ann", ann, &["voice"]);
    world.run(PAUSE);
    let again = world.resume("bob", &sid);
    assert!(names(&world.take(again)).contains(&"lines"));
    assert_eq!(world.listen("bob", again, 1).len(), 1);
}

#[test]
fn same_identity_publishes_anew_after_a_rejoin() {
    let (mut world, _, bob, first) = ann_speaks_to_bob();
    let ann = world.joined("ann");
    let second = world.publish("ann", ann, &["voice"]).remove(0);
    assert_ne!(first, second);
    assert!(world.listen("bob", bob, 0).is_empty());
    let lines = world.listen("bob", bob, 0);
    assert_eq!(lines.values().collect::<Vec<_>>(), [&second]);
    world.speak("ann", 3);
    assert_eq!(world.heard("bob"), [0, 1, 2]);
}

#[test]
fn flood_reaches_nobody_beyond_its_rate() {
    let (mut world, ann, _, _) = ann_speaks_to_bob();
    let (mid, now) = (world.client("ann").sending[0], world.now.at);
    world.client("ann").speak(mid, &vec![vec![1; 60]; 1_000], LOUD, now);
    world.run(SHORT / 10);
    let heard = world.heard("bob").len();
    assert!((150..=165).contains(&heard), "{heard}");
    // What is too large or empty is no sound.
    world.run(SHORT * 2);
    let now = world.now.at;
    world.client("ann").speak(mid, &[vec![1; 1_400], vec![], vec![2; 1_275]], LOUD, now);
    world.run(SHORT / 10);
    assert_eq!(world.heard("bob"), [2]);
    assert!(!world.closed.contains(&ann));
}

/// A packet with sound that nobody has encrypted, for a line.
fn forged(mid: str0m::media::Mid, payload_type: u8, source: u32) -> Vec<u8> {
    let name = mid.as_bytes();
    let mut extension = vec![4 << 4 | u8::try_from(name.len() - 1).unwrap()];
    extension.extend(name);
    extension.resize(extension.len().next_multiple_of(4), 0);
    let words = u8::try_from(extension.len() / 4).unwrap();
    let head = [&[0x90, payload_type, 0, 9, 0, 0, 0, 9][..], &source.to_be_bytes(), &[0xbe, 0xde, 0, words]].concat();
    [head, extension, vec![7; 40]].concat()
}

#[test]
fn forged_sound_keeps_no_source_and_takes_nobody_s_voice() {
    let (mut world, _, _, _) = ann_speaks_to_bob();
    world.speak("ann", 200);
    world.heard("bob");
    let (id, mid) = (world.room.member_of("ann").unwrap(), world.client("ann").sending[0]);
    let (address, payload_type) =
        (world.client("ann").address, *world.client("ann").rtc.media(mid).unwrap().remote_pts()[0]);
    for round in 1_000..1_100 {
        // `str0m` takes a source that returns for a further one.
        for source in [round, round + 1, round] {
            world.room.datagram(PeerId(id, Side::First), address, &forged(mid, payload_type, source), world.now);
        }
        world.run(Duration::from_millis(30));
    }
    let peer = &mut world.room.members.get_mut(&id).unwrap().peer;
    let kept = (1_000..=1_101).filter(|source| peer.has_source(*source)).count();
    assert_eq!(kept, 0);
    world.speak("ann", 5);
    assert_eq!(world.heard("bob"), [0, 1, 2, 3, 4]);
}

#[test]
fn sources_of_sound_are_bounded() {
    let (mut world, _, bob, _) = ann_speaks_to_bob();
    let mid = world.client("ann").sending[0];
    let mut heard = 0;
    for source in 1..=400_u32 {
        world.client("ann").change_source(mid, source);
        world.speak("ann", 1);
        heard += world.heard("bob").len();
    }
    assert_eq!(heard, 256);
    assert!(!world.closed.contains(&bob));
    world.client("ann").change_source(mid, 3);
    // Its numbers go on from where this source was.
    world.speak("ann", 2);
    assert_eq!(world.heard("bob"), [0, 1]);
}

#[test]
fn sound_of_lines_without_a_track_goes_nowhere() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    world.listen("bob", bob, 2);
    let offer = world.client("ann").offer(&["unknown"], 0);
    world.negotiate("ann", ann, offer);
    world.speak("ann", 5);
    assert!(world.heard("bob").is_empty());
    // Announced afterwards, it is published by the line that is there.
    world.take(bob);
    let request = proto::AddTrackRequest { cid: "unknown".into(), ..Default::default() };
    world.signal(ann, Request::AddTrack(request));
    assert_eq!(names(&world.take(bob)), ["update", "lines"]);
}

#[test]
fn tracks_are_bounded_for_a_participant_and_for_the_room() {
    let mut world = World::new();
    let announce = |world: &mut World, link, count: usize| {
        world.take(link);
        for number in 0..count {
            let request = proto::AddTrackRequest { cid: number.to_string(), ..Default::default() };
            world.signal(link, Request::AddTrack(request));
        }
        names(&world.take(link)).iter().filter(|name| **name == "track").count()
    };
    let mut announced = 0;
    for number in 0..=ROOM_TRACKS_MAX / TRACKS_MAX {
        let link = world.enter(caller(&number.to_string()), Default::default()).unwrap();
        announced += announce(&mut world, link, TRACKS_MAX + 3);
    }
    assert_eq!(announced, ROOM_TRACKS_MAX);
}

#[test]
fn listener_is_asked_for_a_bounded_number_of_lines() {
    let mut world = World::new();
    let bob = world.joined("bob");
    world.take(bob);
    for identity in ["a", "b", "c", "d", "e"] {
        let link = world.joined(identity);
        let cids: Vec<String> = (0..TRACKS_MAX).map(|number| number.to_string()).collect();
        let cids: Vec<&str> = cids.iter().map(String::as_str).collect();
        world.publish(identity, link, &cids);
    }
    let mut lines = 0;
    for _ in 0..10 {
        world.run(PAUSE);
        let asked = world.take(bob).into_iter().find_map(|message| match message {
            Response::MediaSectionsRequirement(requirement) => Some(requirement.num_audios),
            _ => None,
        });
        let Some(asked) = asked else { break };
        lines += asked;
        world.listen("bob", bob, usize::try_from(asked).unwrap());
    }
    assert_eq!(lines, u32::try_from(SUBSCRIPTIONS_MAX).unwrap());
}

#[test]
fn participant_that_fills_the_room_takes_no_packets_of_others() {
    let mut world = World::new();
    let listeners = ["q", "r", "s", "t", "u", "v", "w", "x", "y"].map(|identity| (identity, world.joined(identity)));
    let cids: Vec<String> = (0..TRACKS_MAX).map(|number| number.to_string()).collect();
    let cids: Vec<&str> = cids.iter().map(String::as_str).collect();
    let (loud, quiet) = (world.joined("loud"), world.joined("quiet"));
    world.publish("loud", loud, &cids);
    let sid = world.publish("quiet", quiet, &["voice"]).remove(0);
    let mut lines = Vec::new();
    for (identity, link) in listeners {
        let carried = world.listen(identity, link, TRACKS_MAX + 1);
        lines.push((identity, carried.into_iter().find(|(_, track)| *track == sid).unwrap().0));
    }
    // Those who say nothing have no share.
    for number in 0..30 {
        let identity = format!("silent {number}");
        let link = world.enter(caller(&identity), proto::JoinRequest::default()).unwrap();
        world.signal(link, Request::AddTrack(proto::AddTrackRequest { cid: "c".into(), ..Default::default() }));
        let id = world.room.member_of(&identity).unwrap();
        let line = SoundLine { mid: "0".into(), flow: Flow::Sends, cid: "c".into() };
        assert!(world.room.members.get_mut(&id).unwrap().tracks.offered(&[line]).0);
    }
    let floods = world.client("loud").sending.clone();
    let voice = world.client("quiet").sending[0];
    let now = world.now.at;
    for mid in &floods {
        world.client("loud").speak(*mid, &vec![vec![1; 60]; 100], LOUD, now);
    }
    for _ in 0..100 {
        let now = world.now.at;
        // A packet of each track every 7 ms: as many as one track may send.
        for mid in &floods {
            world.client("loud").speak(*mid, &vec![vec![1; 60]; 3], LOUD, now);
        }
        world.client("quiet").speak(voice, &[vec![2]], LOUD, now);
        world.run(Duration::from_millis(20));
    }
    for (identity, line) in lines {
        let heard = world.client(identity).heard.iter().filter(|packet| *packet.mid == *line).count();
        assert_eq!(heard, 100, "{identity}");
    }
    let dropped: u64 =
        world.room.members.values().flat_map(|member| member.tracks.published()).map(|track| track.counts().1).sum();
    assert!(dropped > 200, "the room is not full: {dropped}");
}

#[test]
fn loud_room_loses_what_is_beyond_its_rate() {
    let mut world = World::new();
    let listeners = ["x", "y"].map(|identity| (identity, world.joined(identity)));
    let cids: Vec<String> = (0..TRACKS_MAX).map(|number| number.to_string()).collect();
    let cids: Vec<&str> = cids.iter().map(String::as_str).collect();
    let publishers = ["a", "b", "c", "d"];
    for identity in publishers {
        let link = world.joined(identity);
        world.publish(identity, link, &cids);
    }
    for (identity, link) in listeners {
        assert_eq!(world.listen(identity, link, publishers.len() * TRACKS_MAX).len(), publishers.len() * TRACKS_MAX);
    }
    let now = world.now.at;
    for identity in publishers {
        for mid in world.client(identity).sending.clone() {
            world.client(identity).speak(mid, &vec![vec![1; 60]; 100], LOUD, now);
        }
    }
    world.run(SHORT / 10);
    let heard = listeners.map(|(identity, _)| world.heard(identity).len());
    // Half a second at once, and what the time since then allows.
    assert!(heard[0] == heard[1] && (2_500..=3_000).contains(&heard[0]), "{heard:?}");
    let counts = world.room.members.values().flat_map(|member| member.tracks.published()).map(Track::counts);
    let (given, dropped) = counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
    assert_eq!((usize::try_from(given).unwrap(), given + dropped), (heard[0], 3_200));
    // The room is as before afterwards.
    world.run(SHORT);
    world.speak("a", 5);
    assert_eq!(world.heard("y").len(), 5);
}

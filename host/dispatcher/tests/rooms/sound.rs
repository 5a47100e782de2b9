//! Sound between people, and what the API does with tracks.

use livekit_protocol as proto;
use prost::Message as _;

use crate::people::{Person, python};
use crate::support::{Host, run};

#[test]
fn people_by_livekits_python_client_hear_each_other() {
    let Some(python) = python() else { return };
    run(async |host: Host| {
        let mut ann = Person::join(&python, host.url(), "ann").await;
        let mut bob = Person::join(&python, host.url(), "bob").await;
        // One is heard by whoever is there, the other one by whoever speaks already.
        ann.speak(440).await;
        bob.hears("ann", 440).await;
        bob.speak(660).await;
        ann.hears("bob", 660).await;
        bob.hears("ann", 440).await;
        // Somebody who comes later hears both.
        let mut cid = Person::join(&python, host.url(), "cid").await;
        cid.hears("ann", 440).await;
        cid.hears("bob", 660).await;
        cid.leaves().await;

        let track = track_of(&host, "ann").await;
        mute(&host, "ann", &track.sid).await.unwrap();
        ann.sees("muted").await;
        bob.hears_nothing("ann").await;
        ann.hears("bob", 660).await;
        ann.leaves().await;
        bob.sees("left").await;
        bob.leaves().await;
    });
}

#[test]
fn sound_goes_on_after_the_links_are_cut() {
    let Some(python) = python() else { return };
    run(async |host: Host| {
        let url = host.url_of_network().await;
        let mut ann = Person::join(&python, &url, "ann").await;
        let mut bob = Person::join(&python, &url, "bob").await;
        ann.speak(440).await;
        bob.speak(660).await;
        bob.hears("ann", 440).await;
        ann.hears("bob", 660).await;
        let (voice_of_ann, voice_of_bob) = (track_of(&host, "ann").await.sid, track_of(&host, "bob").await.sid);
        host.network.cut();
        ann.sees("reconnected").await;
        bob.sees("reconnected").await;
        bob.hears("ann", 440).await;
        ann.hears("bob", 660).await;
        // They came back; they did not join anew.
        let voices = (track_of(&host, "ann").await.sid, track_of(&host, "bob").await.sid);
        assert_eq!(voices, (voice_of_ann, voice_of_bob));
        ann.leaves().await;
        bob.leaves().await;
    });
}

#[test]
fn one_track_after_another_is_heard_on_the_same_line() {
    let Some(python) = python() else { return };
    run(async |host: Host| {
        let mut ann = Person::join(&python, host.url(), "ann").await;
        let mut bob = Person::join(&python, host.url(), "bob").await;
        let mut sids = Vec::new();
        for hz in [440, 550, 660] {
            ann.speak(hz).await;
            bob.hears("ann", hz).await;
            sids.push(track_of(&host, "ann").await.sid);
            ann.unpublish().await;
        }
        sids.dedup();
        assert_eq!(sids.len(), 3, "{sids:?}");
        ann.leaves().await;
        bob.leaves().await;
    });
}

/// The one track of a participant.
async fn track_of(host: &Host, identity: &str) -> proto::TrackInfo {
    let who = proto::RoomParticipantIdentity { room: "lobby".into(), identity: identity.into(), ..Default::default() };
    let participant = host.room_service("GetParticipant", &who).await.unwrap();
    let participant = proto::ParticipantInfo::decode(participant.as_slice()).unwrap();
    let [track] = &participant.tracks[..] else { panic!("{participant:?}") };
    track.clone()
}

async fn mute(host: &Host, identity: &str, track_sid: &str) -> Result<Vec<u8>, String> {
    let (room, identity, track_sid) = ("lobby".to_owned(), identity.to_owned(), track_sid.to_owned());
    let request = proto::MuteRoomTrackRequest { room, identity, track_sid, muted: true };
    host.room_service("MutePublishedTrack", &request).await.map_err(|failure| failure.code.to_owned())
}

#[test]
fn api_names_the_tracks_and_participants_that_are_not_there() {
    run(async |host: Host| {
        let _ann = host.joined("ann").await;
        assert_eq!(mute(&host, "bob", "TR_1").await, Err("not-found".into()));
        assert_eq!(mute(&host, "ann", "TR_1").await, Err("not-found".into()));
        let subscribe = async |identity: &str| {
            let (room, identity) = ("lobby".to_owned(), identity.to_owned());
            let request = proto::UpdateSubscriptionsRequest { room, identity, subscribe: true, ..Default::default() };
            host.room_service("UpdateSubscriptions", &request).await.map_err(|failure| failure.code.to_owned())
        };
        assert_eq!(subscribe("ann").await, Ok(Vec::new()));
        assert_eq!(subscribe("bob").await, Err("not-found".into()));
    });
}

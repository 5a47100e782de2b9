//! Servers and participants that send what nobody expects.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;

use super::super::SOON;
use super::super::world::{World, track};
use super::{share_at, told, tone};
use crate::peer::lines::LINES_MAX;
use wasm_worker_core::room::audio::HeardId;

#[test]
fn hostile_lines_and_news_of_tracks_change_nothing_else() {
    let mut world = World::hearing();
    let requirement = |num_audios| proto::MediaSectionsRequirement { num_audios, num_videos: u32::MAX };
    for count in [0, u32::MAX, 0, 7, 0] {
        world.say(Response::MediaSectionsRequirement(requirement(count)));
        world.pass(Duration::from_millis(30));
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.place.as_ref().unwrap().peer.sections(), LINES_MAX);
    for sid in ["", "TR_1", "TR_none"] {
        let sid = || sid.to_owned();
        world.say(Response::TrackPublished(proto::TrackPublishedResponse { cid: sid(), track: None }));
        let track_info = Some(track(&sid()));
        world.say(Response::TrackPublished(proto::TrackPublishedResponse { cid: sid(), track: track_info }));
        world.say(Response::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid: sid() }));
        world.say(Response::Mute(proto::MuteTrackRequest { sid: sid(), muted: true }));
        world.say(Response::TrackSubscribed(proto::TrackSubscribed { track_sid: sid() }));
    }
    // An answer again, with a track on every line, known and unknown.
    let place = world.place.as_ref().unwrap();
    let offers = world.asked(|request| match request {
        Request::Offer(offer) => Some(offer.id),
        _ => None,
    });
    let tracks = place.peer.free_sections().into_iter().map(|section| (section, "TR_1".to_owned())).collect();
    let id = *offers.last().unwrap();
    let answer = proto::SessionDescription { id, mid_to_track_id: tracks, ..Default::default() };
    world.say(Response::Answer(answer));
    world.events.clear();
    world.sends("TR_1", &tone(440.0, 100), 0);
    world.pass(Duration::from_secs(1));
    assert!(told(&world).is_empty(), "{:?}", told(&world));
    assert!(share_at(440.0, &world.heard(HeardId::Asked(2))) > 0.95);
}

#[test]
fn packets_that_are_no_sound_are_counted_and_hurt_nobody() {
    let mut world = World::hearing();
    let garbage = |seed: u8| (0..=seed % 60).map(|at| seed.wrapping_mul(31).wrapping_add(at.wrapping_mul(7))).collect();
    for (packet, number) in (0..200).map(garbage).zip(0_u64..) {
        let packet: Vec<u8> = packet;
        let time = if number % 7 == 0 { u64::MAX - number } else { number * 123_457 };
        assert!(world.place.as_mut().unwrap().peer.send_sound("TR_1", time, &packet, world.now));
        world.pass(Duration::from_millis(5));
    }
    world.sends("TR_1", &tone(440.0, 200), 1_000_000_000);
    world.pass(Duration::from_secs(1));
    assert!(world.session.statistics().audio.packets_lost > 0);
    assert!(world.heard(HeardId::Asked(2)).len() > 16_000);
    world.unpublishes("ann", "TR_1");
    world.pass(SOON);
    assert_eq!(told(&world).last().unwrap(), "gone TR_1");
}

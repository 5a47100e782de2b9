//! Any order of entries, messages, losses and ends: what the world asserts of links holds, and nobody stays for ever.

use std::time::Duration;

use livekit_protocol as proto;
use proptest::prelude::*;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;

use super::world::{World, caller};
use crate::room_host::member::{MemberId, PeerId, Side};

const IDENTITIES: [&str; 3] = ["ann", "bob", "cid"];

/// Something that happens to a room.
#[derive(Clone, Debug)]
enum Happening {
    Enters { who: usize, resumes: bool, sdp: &'static str },
    Loses { link: usize },
    Sends { link: usize, request: Box<Request> },
    Datagram { member: u64, bytes: Vec<u8> },
    Removed { who: usize },
    Updated { who: usize, metadata: usize },
    Data,
    Waits { milliseconds: u64 },
}

fn sdp() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "v=0\r\n", "garbage"])
}

fn request() -> impl Strategy<Value = Request> {
    let state = proto::DataChannelReceiveState { publisher_sid: "PA_1".into(), last_seq: 3 };
    let sync = proto::SyncState { datachannel_receive_states: vec![state], ..Default::default() };
    let update = proto::UpdateParticipantMetadata { metadata: "m".into(), request_id: 1, ..Default::default() };
    prop_oneof![
        sdp().prop_map(|sdp| Request::Offer(proto::SessionDescription { sdp: sdp.into(), ..Default::default() })),
        Just(Request::Leave(proto::LeaveRequest::default())),
        Just(Request::SyncState(sync)),
        Just(Request::UpdateMetadata(update)),
        Just(Request::Ping(1)),
        Just(Request::AddTrack(proto::AddTrackRequest::default())),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let who = 0..IDENTITIES.len();
    let enters = (who.clone(), any::<bool>(), sdp());
    prop_oneof![
        4 => enters.prop_map(|(who, resumes, sdp)| Happening::Enters { who, resumes, sdp }),
        2 => (0..20_usize).prop_map(|link| Happening::Loses { link }),
        4 => (0..20_usize, request()).prop_map(|(link, request)| Happening::Sends { link, request: Box::new(request) }),
        2 => (0..9_u64, prop::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(member, bytes)| Happening::Datagram { member, bytes }),
        1 => who.clone().prop_map(|who| Happening::Removed { who }),
        1 => (who, 0..70_000_usize).prop_map(|(who, metadata)| Happening::Updated { who, metadata }),
        1 => Just(Happening::Data),
        2 => (0..20_000_u64).prop_map(|milliseconds| Happening::Waits { milliseconds }),
    ]
}

fn happen(world: &mut World, happening: Happening) {
    match happening {
        Happening::Enters { who, resumes, sdp } => {
            let offer = proto::SessionDescription { sdp: sdp.into(), ..Default::default() };
            let publisher_offer = (!sdp.is_empty()).then_some(offer);
            let request = proto::JoinRequest { reconnect: resumes, publisher_offer, ..Default::default() };
            world.enter(caller(IDENTITIES[who]), request).unwrap();
        }
        Happening::Loses { link } => {
            if let Some(link) = world.links().get(link) {
                world.lose_link(*link);
            }
        }
        Happening::Sends { link, request } => {
            if let Some(link) = world.links().get(link) {
                world.signal(*link, *request);
            }
        }
        Happening::Datagram { member, bytes } => {
            let source = "192.0.2.1:1".parse().unwrap();
            world.room.datagram(PeerId(MemberId(member), Side::First), source, &bytes, world.now);
            world.perform(None);
        }
        Happening::Removed { who } => {
            world.room.remove_participant(IDENTITIES[who], world.now);
            world.perform(None);
        }
        Happening::Updated { who, metadata } => {
            let (identity, metadata) = (IDENTITIES[who].to_owned(), "x".repeat(metadata));
            let request = proto::UpdateParticipantRequest { identity, metadata, ..Default::default() };
            drop(world.room.update_participant(&request, world.now));
            world.perform(None);
        }
        Happening::Data => {
            world.room.send_data(proto::SendDataRequest { data: vec![1], ..Default::default() }, world.now).unwrap();
            world.perform(None);
        }
        Happening::Waits { milliseconds } => world.run(Duration::from_millis(milliseconds)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_order_keeps_the_promises_to_links(happenings in prop::collection::vec(happening(), 0..40)) {
        let mut world = World::new();
        for happening in happenings {
            happen(&mut world, happening);
            prop_assert!(world.occupants() <= IDENTITIES.len());
        }
        for link in world.links() {
            let messages = world.take(link);
            let first = messages.first();
            prop_assert!(
                matches!(first, Some(Response::Join(_) | Response::Reconnect(_) | Response::Leave(_))),
                "{first:?}"
            );
            let leaves = messages.iter().filter(|message| matches!(message, Response::Leave(_))).count();
            let is_last = messages.iter().rposition(|message| matches!(message, Response::Leave(_)));
            prop_assert!(leaves <= 1 && is_last.is_none_or(|place| place + 1 == messages.len()));
        }
        // Nobody has a peer with a path.
        world.run(Duration::from_secs(60));
        prop_assert_eq!(world.occupants(), 0);
        prop_assert!(world.links().iter().all(|link| world.closed.contains(link)));
    }
}

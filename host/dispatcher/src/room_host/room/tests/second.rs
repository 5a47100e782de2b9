//! Clients that have two peer connections, and get texts and sound on the second one.

use super::client::Client;
use super::sound::PAUSE;
use super::*;
use crate::keys::Caller;
use crate::room_host::limits::{RESUME_WITHIN, SUBSCRIPTIONS_MAX, TRACKS_MAX};
use crate::room_host::member::{PeerId, Side};
use crate::room_host::room::Refusal;

impl World {
    /// Join with two peer connections, and wait until the data channels are open.
    pub(super) fn joined_with_two(&mut self, identity: &'static str) -> LinkId {
        self.add_second(identity);
        let link = self.joined_as(caller(identity));
        let messages = self.take(link);
        let offer = messages.iter().find_map(|message| match message {
            Response::Offer(offer) => Some(offer.clone()),
            _ => None,
        });
        self.give_back(link, messages);
        self.answer_offer(identity, link, &offer.expect("an offer"));
        link
    }

    /// Enter with two peer connections.
    fn enter_with_two(&mut self, caller: Caller, request: proto::JoinRequest) -> Result<LinkId, Refusal> {
        self.add_second(caller.person.identity.clone().leak());
        self.enter(caller, request)
    }

    fn add_second(&mut self, identity: &'static str) {
        let number = u8::try_from(self.links().len() + 1).unwrap();
        self.seconds.insert(identity, Client::second(number, self.now.at));
    }

    /// The client's side of a second peer; none where it has one peer connection.
    pub(super) fn second(&mut self, identity: &str) -> Option<&mut Client> {
        self.seconds.get_mut(identity)
    }

    /// Lose the datagrams of a second peer, or no longer.
    fn cut_second(&mut self, identity: &str, is_cut: bool) {
        let address = self.second(identity).unwrap().address;
        self.cut_address(address, is_cut);
    }

    /// The last offer of the host since the last call.
    fn host_offer(&mut self, link: LinkId) -> Option<proto::SessionDescription> {
        self.take(link).into_iter().rev().find_map(|message| match message {
            Response::Offer(offer) => Some(offer),
            _ => None,
        })
    }

    /// Answer an offer of the host.
    pub(super) fn answer_offer(&mut self, identity: &str, link: LinkId, offer: &proto::SessionDescription) {
        let sdp = self.second(identity).unwrap().answer(&offer.sdp);
        self.signal(link, answer_to(offer, &sdp));
        self.run(Duration::from_millis(500));
    }

    /// Answer the last offer of the host, if there is one since the last call. Returns which line carries which track.
    pub(super) fn obey_offer(&mut self, identity: &str, link: LinkId) -> Option<HashMap<String, String>> {
        let offer = self.host_offer(link)?;
        self.answer_offer(identity, link, &offer);
        Some(offer.mid_to_track_id)
    }
}

fn answer_to(offer: &proto::SessionDescription, sdp: &str) -> Request {
    let answer =
        proto::SessionDescription { r#type: "answer".into(), sdp: sdp.into(), id: offer.id, ..Default::default() };
    Request::Answer(answer)
}

/// Ann, whom bob hears on his second peer connection. Returns their links and the sid of the track.
fn ann_speaks_to_bob() -> (World, LinkId, LinkId, String) {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined_with_two("bob"));
    let sid = world.publish("ann", ann, &["voice"]).remove(0);
    world.obey_offer("bob", bob).unwrap();
    (world, ann, bob, sid)
}

#[test]
fn everything_for_the_client_comes_on_the_second_connection() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined_with_two("bob"));
    let messages = world.take(bob);
    assert_eq!(names(&messages)[..6], ["join", "token", "answer", "trickle", "offer", "trickle"]);
    let Response::Join(join) = &messages[0] else { panic!() };
    assert!(join.subscriber_primary);
    assert_eq!(updates(&messages), [("bob".into(), State::Active, Reason::UnknownReason)]);
    let sid = world.publish("ann", ann, &["voice"]).remove(0);
    world.take(ann);
    let messages = world.take(bob);
    assert_eq!(names(&messages), ["update", "offer", "trickle"]);
    let (Response::Offer(offer), Response::Trickle(trickle)) = (&messages[1], &messages[2]) else { panic!() };
    assert!(trickle.target == proto::SignalTarget::Subscriber as i32 && trickle.candidate_init.contains("127.0.0.1"));
    let (mid, track) = offer.mid_to_track_id.iter().next().unwrap();
    assert_eq!((offer.r#type.as_str(), offer.id, track), ("offer", 2, &sid));
    assert!(offer.sdp.contains("a=ice-lite") && offer.sdp.contains(&format!("|{sid} {sid}\r\n")), "{}", offer.sdp);
    assert!(!names(&world.take(ann)).contains(&"heard"));
    world.speak("ann", 3);
    world.answer_offer("bob", bob, offer);
    assert_eq!(names(&world.take(ann)), ["heard"]);
    world.speak("ann", 50);
    let heard = world.second("bob").unwrap().heard.clone();
    // The three before the answer are lost.
    assert_eq!((heard.len(), &*heard[0].mid, heard[0].sequence), (50, mid.as_str(), 4));
    assert!(offer.sdp.contains(&format!("a=ssrc:{} cname:", heard[0].source)), "{}", offer.sdp);
    assert!(world.client("bob").heard.is_empty() && world.client("bob").received.is_empty());
    // He is heard by others, and texts go both ways.
    world.publish("bob", bob, &["voice"]);
    world.listen("ann", ann, 1);
    world.speak("bob", 5);
    assert_eq!(world.heard("ann"), [0, 1, 2, 3, 4]);
    world.send("ann", "t", b"hi".to_vec());
    world.send("bob", "t", b"ho".to_vec());
    world.run(SHORT);
    assert_eq!(world.texts("bob"), [("ann".into(), "hi".into())]);
    assert_eq!(world.texts("ann"), [("bob".into(), "ho".into())]);
    assert!(world.obey_offer("bob", bob).is_none(), "nothing has changed");
}

#[test]
fn line_carries_another_track_after_it_was_empty() {
    let (mut world, ann, bob, _) = ann_speaks_to_bob();
    world.speak("ann", 5);
    let last = world.second("bob").unwrap().heard.pop().unwrap();
    world.heard("bob");
    let mid = world.client("ann").sending[0];
    let offer = world.client("ann").stop_sending(mid);
    world.negotiate("ann", ann, offer);
    world.run(PAUSE);
    let empty = world.host_offer(bob).unwrap();
    assert!(empty.mid_to_track_id.is_empty() && empty.sdp.contains("a=inactive"), "{}", empty.sdp);
    let second = world.publish("ann", ann, &["two"]).remove(0);
    world.run(PAUSE);
    assert!(world.host_offer(bob).is_none(), "bob does not know yet that the first one is over");
    world.answer_offer("bob", bob, &empty);
    let lines = world.obey_offer("bob", bob).unwrap();
    assert_eq!(lines.values().collect::<Vec<_>>(), [&second]);
    world.speak("ann", 5);
    let first = world.second("bob").unwrap().heard[0].clone();
    assert_eq!((first.mid, first.sequence), (last.mid, 1));
    assert_ne!(first.source, last.source);
    assert_eq!(world.heard("bob"), [0, 1, 2, 3, 4]);
}

#[test]
fn lost_path_of_the_second_connection_is_found_again() {
    let (mut world, _, bob, _) = ann_speaks_to_bob();
    world.cut_second("bob", true);
    world.run(Duration::from_secs(20));
    assert_eq!(leave_of(&world.take(bob)), (Reason::ConnectionTimeout, Action::Resume));
    world.speak("ann", 3);
    world.send("ann", "t", b"while away".to_vec());
    world.cut_second("bob", false);
    let again = world.resume("bob", "");
    world.run(PAUSE);
    world.obey_offer("bob", again).unwrap();
    world.run(SHORT);
    world.speak("ann", 3);
    assert_eq!((world.heard("bob"), world.texts("bob").len()), (vec![0, 1, 2], 1));
    world.run(RESUME_WITHIN * 2);
    assert!(!world.closed.contains(&again));
}

#[test]
fn whoever_comes_back_gets_the_last_offer_again_and_then_a_new_path() {
    let (mut world, ann, bob, _) = ann_speaks_to_bob();
    world.publish("ann", ann, &["two"]);
    world.run(PAUSE);
    let missed = world.host_offer(bob).unwrap();
    world.lose_link(bob);
    let again = world.resume("bob", "");
    let messages = world.take(again);
    assert_eq!(names(&messages)[..2], ["reconnect", "update"]);
    let Some(Response::Offer(offer)) = messages.iter().rev().nth(1) else { panic!("{:?}", names(&messages)) };
    assert_eq!(offer, &missed);
    world.answer_offer("bob", again, offer);
    world.run(PAUSE);
    let restart = world.host_offer(again).unwrap();
    let name = |offer: &proto::SessionDescription| {
        offer.sdp.lines().find(|line| line.starts_with("a=ice-ufrag:")).unwrap().to_owned()
    };
    assert_ne!(name(&restart), name(offer));
    world.answer_offer("bob", again, &restart);
    world.speak("ann", 3);
    assert_eq!(world.heard("bob"), [0, 1, 2]);
    world.run(RESUME_WITHIN * 2);
    assert!(!world.closed.contains(&again));
    // With another number of peer connections it is another client.
    let (request, caller) = (proto::JoinRequest { reconnect: true, ..Default::default() }, caller("ann"));
    let single = world.enter(caller.clone(), request.clone()).unwrap();
    assert_eq!(names(&world.take(single))[0], "reconnect");
    let double = world.enter_with_two(caller, request).unwrap();
    assert_eq!(leave_of(&world.take(double)), (Reason::StateMismatch, Action::Reconnect));
}

#[test]
fn answers_that_are_none_have_no_effect_or_end_the_stay() {
    let (mut world, ann, bob, _) = ann_speaks_to_bob();
    world.take(bob);
    world.signal(bob, Request::Answer(proto::SessionDescription::default()));
    world.signal(ann, Request::Answer(proto::SessionDescription::default()));
    world.publish("ann", ann, &["two"]);
    world.run(PAUSE);
    let offer = world.host_offer(bob).unwrap();
    let former = proto::SessionDescription { id: 2, ..offer.clone() };
    world.signal(bob, answer_to(&former, "v=0\r\n"));
    assert!(world.take(bob).is_empty(), "it is the answer to a former offer");
    world.signal(bob, answer_to(&offer, &format!("v=0\r\n{}", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n".repeat(65))));
    assert_eq!(leave_of(&world.take(bob)), (Reason::StateMismatch, Action::Reconnect));
    // Whatever a client answers, it is alone in this.
    for wrong in ["", "garbage", "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:x\r\n"] {
        let bob = world.enter_with_two(caller("bob"), proto::JoinRequest::default()).unwrap();
        let offer = world.host_offer(bob).unwrap();
        world.signal(bob, answer_to(&offer, wrong));
        assert_eq!(leave_of(&world.take(bob)), (Reason::JoinFailure, Action::Disconnect), "{wrong}");
    }
    assert!(!world.closed.contains(&ann) && world.occupants() == 1);
}

#[test]
fn lines_are_bounded_and_nothing_of_the_second_connection_is_given_on() {
    let mut world = World::new();
    let bob = world.joined_with_two("bob");
    let mut offers = 0;
    for number in 0..=SUBSCRIPTIONS_MAX / TRACKS_MAX {
        let identity: &'static str = format!("p{number}").leak();
        let link = world.joined(identity);
        let cids: Vec<String> = (0..TRACKS_MAX).map(|number| number.to_string()).collect();
        world.publish(identity, link, &cids.iter().map(String::as_str).collect::<Vec<_>>());
        world.run(PAUSE);
        offers += usize::from(world.obey_offer("bob", bob).is_some());
    }
    while world.obey_offer("bob", bob).is_some() {
        world.run(PAUSE);
        offers += 1;
    }
    let id = world.room.member_of("bob").unwrap();
    let lines = world.room.members[&id].lines.mids().count();
    assert!(lines == SUBSCRIPTIONS_MAX && offers < 20, "{lines} {offers}");
    // The lines of both peers may have the same names: what comes on one is not what is published on the other.
    world.publish("bob", bob, &["voice"]);
    let link = world.joined("cid");
    world.listen("cid", link, SUBSCRIPTIONS_MAX);
    let (address, now) = (world.second("bob").unwrap().address, world.now);
    for bytes in [vec![0x90, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 9], vec![22; 100], vec![0, 1], Vec::new()] {
        world.room.datagram(PeerId(id, Side::Second), address, &bytes, now);
        world.perform(None);
    }
    world.run(SHORT);
    assert!(world.heard("cid").is_empty() && !world.closed.contains(&bob));
}

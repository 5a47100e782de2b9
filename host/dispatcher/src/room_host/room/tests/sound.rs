//! Sound: who publishes, who hears it, on which lines, and what is told.

use super::*;
use crate::room_host::room::MuteError;

const FRAME: Duration = Duration::from_millis(20);
/// Longer than the pause between two requests for lines.
pub(super) const PAUSE: Duration = Duration::from_millis(300);
pub(super) const LOUD: i8 = -20;

impl World {
    /// Announce tracks of these names and offer lines for them. Returns their sids.
    pub(super) fn publish(&mut self, identity: &'static str, link: LinkId, cids: &[&str]) -> Vec<String> {
        self.take(link);
        for cid in cids {
            let source = proto::TrackSource::Microphone as i32;
            let request = proto::AddTrackRequest { cid: (*cid).into(), source, ..Default::default() };
            self.signal(link, Request::AddTrack(request));
        }
        let messages = self.take(link);
        let sids = messages.iter().filter_map(|message| match message {
            Response::TrackPublished(published) => Some(published.track.clone().unwrap().sid),
            _ => None,
        });
        let sids = sids.collect();
        let offer = self.client(identity).offer(cids, 0);
        self.negotiate(identity, link, offer);
        sids
    }

    /// Offer further lines on which the client receives. Returns which line carries which track.
    pub(super) fn listen(&mut self, identity: &'static str, link: LinkId, lines: usize) -> HashMap<String, String> {
        let offer = self.client(identity).offer(&[], lines);
        self.negotiate(identity, link, offer).mid_to_track_id
    }

    /// Request as an administrator that a track is muted, or not.
    pub(super) fn mute(&mut self, identity: &str, track_sid: &str, muted: bool) -> Result<proto::TrackInfo, MuteError> {
        let (identity, track_sid) = (identity.into(), track_sid.into());
        let request = proto::MuteRoomTrackRequest { identity, track_sid, muted, ..Default::default() };
        let outcome = self.room.mute_track(&request, self.now);
        self.perform(None);
        outcome
    }

    /// Make an offer, and take its answer.
    pub(super) fn negotiate(&mut self, identity: &'static str, link: LinkId, sdp: String) -> proto::SessionDescription {
        let former = self.take(link);
        self.offer(identity, link, sdp);
        let messages = self.take(link);
        let answer = messages.iter().find_map(|message| match message {
            Response::Answer(answer) => Some(answer.clone()),
            _ => None,
        });
        let answer = answer.unwrap_or_else(|| panic!("{:?}", names(&messages)));
        self.answered(identity, &answer.sdp);
        self.give_back(link, former.into_iter().chain(messages).collect());
        self.run(FRAME);
        answer
    }

    /// Send a packet every 20 ms on the first line.
    pub(super) fn speak(&mut self, identity: &'static str, packets: u8) {
        let mid = self.client(identity).sending[0];
        for number in 0..packets {
            let now = self.now.at;
            self.client(identity).speak(mid, &[vec![7, number]], LOUD, now);
            self.run(FRAME);
        }
    }

    /// The last bytes of the packets that a client heard since the last call.
    pub(super) fn heard(&mut self, identity: &str) -> Vec<u8> {
        let heard = std::mem::take(&mut self.getting(identity).heard);
        heard.iter().map(|heard| *heard.payload.last().unwrap()).collect()
    }
}

/// The tracks of a participant in the last update about it.
pub(super) fn tracks_of(messages: &[Response], identity: &str) -> Option<Vec<proto::TrackInfo>> {
    let infos = messages.iter().rev().filter_map(|message| match message {
        Response::Update(update) => Some(update.participants.iter().rev()),
        _ => None,
    });
    infos.flatten().find(|info| info.identity == identity).map(|info| info.tracks.clone())
}

/// The numbers of lines that a client was asked for, once its turn has come.
pub(super) fn asks(world: &mut World, link: LinkId) -> Vec<u32> {
    world.run(PAUSE);
    asked(&world.take(link))
}

/// The numbers of lines that a client was asked for.
pub(super) fn asked(messages: &[Response]) -> Vec<u32> {
    let number = |message: &Response| match message {
        Response::MediaSectionsRequirement(requirement) => Some(requirement.num_audios),
        _ => None,
    };
    messages.iter().filter_map(number).collect()
}

#[test]
fn sound_goes_to_others_as_it_came() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    assert!(world.listen("bob", bob, 3).is_empty());
    world.take(bob);
    let sids = world.publish("ann", ann, &["voice"]);
    let messages = world.take(bob);
    assert_eq!(names(&messages), ["update", "lines"], "a line is free");
    let [track] = &tracks_of(&messages, "ann").unwrap()[..] else { panic!() };
    assert_eq!((&track.sid, track.mime_type.as_str(), track.muted), (&sids[0], "audio/opus", false));
    assert_eq!(asked(&messages), [0]);
    let own = world.take(ann);
    assert!(!names(&own).contains(&"heard") && tracks_of(&own, "ann").is_some());
    let (line, sid) = world.listen("bob", bob, 0).into_iter().next().unwrap();
    assert_eq!((&sid, &*world.client("bob").receiving[0]), (&sids[0], line.as_str()));
    assert_eq!(names(&world.take(ann)), ["heard"]);
    world.speak("ann", 50);
    let heard = world.client("bob").heard.clone();
    assert_eq!(heard.len(), 50);
    for (number, packet) in (1_u8..).zip(&heard) {
        let (sequence, time) = (u64::from(number), u32::from(number) * 960);
        assert_eq!((packet.sequence, packet.time, packet.level), (sequence, time, Some(LOUD)));
        assert_eq!((&*packet.mid, packet.payload.as_slice()), (line.as_str(), &[7, number - 1][..]));
    }
    assert!(world.heard("ann").is_empty());
}

#[test]
fn answer_names_the_owner_of_a_line_and_empty_lines_are_inactive() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    let sid = sid_of(&world.take(ann));
    let track = world.publish("ann", ann, &["voice"]).remove(0);
    let offer = world.client("bob").offer(&[], 2);
    let answer = world.negotiate("bob", bob, offer);
    let (sends, empty) = (answer.sdp.matches("a=sendonly").count(), answer.sdp.matches("a=inactive").count());
    assert_eq!((sends, empty), (1, 1), "{}", answer.sdp);
    let msid = format!("a=msid:{sid}|{track} {track}\r\n");
    assert_eq!((answer.sdp.matches("a=msid:").count(), answer.sdp.matches(&msid).count()), (1, 1), "{}", answer.sdp);
}

#[test]
fn whoever_comes_later_knows_the_tracks_and_is_asked_for_lines() {
    let mut world = World::new();
    let ann = world.joined("ann");
    world.publish("ann", ann, &["one", "two"]);
    let bob = world.joined("bob");
    let messages = world.take(bob);
    let Response::Join(join) = &messages[0] else { panic!() };
    assert!(join.other_participants[0].is_publisher && join.other_participants[0].tracks.len() == 2);
    assert_eq!(asked(&messages), [2]);
    assert_eq!(world.listen("bob", bob, 2).len(), 2);
    assert!(asks(&mut world, bob).is_empty());
    world.speak("ann", 3);
    assert_eq!(world.heard("bob"), [0, 1, 2]);
    assert_eq!(world.room.to_proto().num_publishers, 1);
}

#[test]
fn muted_track_is_silent_and_only_its_owner_gives_it_its_voice_back() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    let sid = world.publish("ann", ann, &["voice"]).remove(0);
    world.listen("bob", bob, 1);
    let is_muted = |world: &mut World| tracks_of(&world.take(bob), "ann").map(|tracks| tracks[0].muted);
    world.take(bob);
    let own = |muted| Request::Mute(proto::MuteTrackRequest { sid: sid.clone(), muted });
    world.signal(ann, own(true));
    assert_eq!(is_muted(&mut world), Some(true));
    world.speak("ann", 3);
    world.signal(ann, own(true));
    world.signal(ann, Request::Mute(proto::MuteTrackRequest { sid: "TR_other".into(), muted: true }));
    assert_eq!((world.heard("bob"), is_muted(&mut world)), (vec![], None));
    world.signal(ann, own(false));
    world.speak("ann", 2);
    assert_eq!((world.heard("bob"), is_muted(&mut world)), (vec![0, 1], Some(false)));
    // An administrator mutes it, and cannot do the contrary.
    world.take(ann);
    assert!(world.mute("ann", &sid, true).unwrap().muted);
    assert_eq!(names(&world.take(ann)), ["mute", "update"]);
    world.speak("ann", 2);
    assert_eq!((world.heard("bob"), is_muted(&mut world)), (vec![], Some(true)));
    assert_eq!(world.mute("ann", &sid, false), Err(MuteError::Unmute));
    assert_eq!(world.mute("ann", "TR_other", true), Err(MuteError::Track));
    assert_eq!(world.mute("cid", &sid, true), Err(MuteError::Participant));
}

#[test]
fn line_goes_on_with_another_track_after_an_empty_answer() {
    let mut world = World::new();
    let (ann, bob) = (world.joined("ann"), world.joined("bob"));
    world.publish("ann", ann, &["one"]);
    world.listen("bob", bob, 1);
    world.speak("ann", 5);
    let last = world.client("bob").heard.last().cloned().unwrap();
    world.heard("bob");
    let mid = world.client("ann").sending[0];
    let offer = world.client("ann").stop_sending(mid);
    world.take(bob);
    world.negotiate("ann", ann, offer);
    world.run(PAUSE);
    let messages = world.take(bob);
    assert_eq!((tracks_of(&messages, "ann"), asked(&messages)), (Some(vec![]), vec![0]));
    let second = world.publish("ann", ann, &["two"]).remove(0);
    assert!(world.listen("bob", bob, 0).is_empty(), "bob hears that the first one is over");
    assert_eq!(asks(&mut world, bob), [0]);
    let lines = world.listen("bob", bob, 0);
    assert_eq!(lines.values().collect::<Vec<_>>(), [&second]);
    world.speak("ann", 5);
    let first = world.client("bob").heard[0].clone();
    assert_eq!((first.mid, first.sequence), (last.mid, 1), "by another source of RTP");
    assert_ne!(first.source, last.source);
    assert_eq!(world.heard("bob"), [0, 1, 2, 3, 4]);
    // With its owner the track is over too.
    world.take(bob);
    world.signal(ann, Request::Leave(proto::LeaveRequest::default()));
    assert_eq!(asks(&mut world, bob), [0]);
    assert!(world.listen("bob", bob, 0).is_empty());
}

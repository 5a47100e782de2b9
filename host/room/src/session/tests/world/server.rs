//! The server's side of the world.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use prost::Message as _;

use super::{Door, Offers, Parcel, SERVER, World};
use crate::peer::Transport;
use crate::peer::other_side::OtherSide;
use crate::signal::{LinkError, LinkRequest};
use crate::wire::Description;

/// A place in the room.
pub(in crate::session::tests) struct Place {
    pub(in crate::session::tests) sid: String,
    pub(in crate::session::tests) peer: OtherSide,
    /// Texts whose chunks came, by the sequences that were new.
    pub(in crate::session::tests) texts: Vec<String>,
    pub(in crate::session::tests) last_sequence: u32,
    read: usize,
    /// Tracks that the agent subscribed to and that have no line.
    waiting: Vec<String>,
    /// The agent's tracks: sids by the names of their announcements.
    pub(in crate::session::tests) own: BTreeMap<String, String>,
}

impl World {
    /// Have the server say something on the open link.
    pub(in crate::session::tests) fn say(&mut self, message: Response) {
        if let Some(link) = self.link {
            let message = proto::SignalResponse { message: Some(message) }.encode_to_vec();
            self.post(Parcel::Message(link, message));
        }
    }

    /// Have the server say what is no message.
    pub(in crate::session::tests) fn say_garbage(&mut self) {
        if let Some(link) = self.link {
            self.post(Parcel::Message(link, vec![0xff; 9]));
        }
    }

    /// Cut the link, as a network does.
    pub(in crate::session::tests) fn cut_link(&mut self) {
        if let Some(link) = self.link.take() {
            self.post(Parcel::Lost(link));
        }
    }

    /// Have the server say why it ends the stay, and close the peer in the same moment, which is heard first.
    pub(in crate::session::tests) fn dismiss(
        &mut self,
        reason: proto::DisconnectReason,
        action: proto::leave_request::Action,
    ) {
        if let Some(place) = &mut self.place {
            place.peer.close();
            self.move_datagrams();
        }
        self.place = None;
        let leave = proto::LeaveRequest { reason: reason as i32, action: action as i32, ..Default::default() };
        self.say(Response::Leave(leave));
        self.cut_link();
    }

    /// Have the server hear and say nothing on the open link.
    pub(in crate::session::tests) fn mute(&mut self) {
        self.link = None;
    }

    pub(super) fn dial(&mut self, link: u32, LinkRequest { url, .. }: &LinkRequest) {
        let encoded = url.split_once("join_request=").unwrap().1.replace("%3D", "=");
        let wrapped = proto::WrappedJoinRequest::decode(URL_SAFE.decode(encoded).unwrap().as_slice()).unwrap();
        let request = proto::JoinRequest::decode(wrapped.join_request.as_slice()).unwrap();
        self.dialled.push(request.clone());
        match self.door {
            Door::Closed => self.post(Parcel::Failed(LinkError::Unreachable { why: "refused".into() })),
            Door::Refuses(status) => self.post(Parcel::Failed(LinkError::Status { status, body: "no".into() })),
            Door::Silent => self.post(Parcel::Opened),
            Door::Open => {
                self.post(Parcel::Opened);
                self.link = Some(link);
                if request.reconnect { self.let_back(&request) } else { self.let_in(request) }
            }
        }
    }

    fn let_in(&mut self, request: proto::JoinRequest) {
        self.places += 1;
        let sid = format!("PA_me{}", self.places);
        let offer = request.publisher_offer.unwrap();
        let mut peer = OtherSide::new(Transport::Udp, SERVER.parse::<SocketAddr>().unwrap(), self.now);
        let answer = peer.answer(&Description { id: offer.id, sdp: offer.sdp });
        self.say(Response::Join(proto::JoinResponse {
            room: Some(proto::Room { sid: "RM_1".into(), name: "lobby".into(), ..Default::default() }),
            participant: Some(person(&sid, "me")),
            other_participants: self.people.clone(),
            ping_interval: 5,
            ping_timeout: 15,
            ..Default::default()
        }));
        self.say(Response::RefreshToken(format!("token of {sid}")));
        self.say(Response::Answer(answer.message("answer")));
        self.say_candidate(&peer);
        let (texts, waiting, own) = Default::default();
        self.place = Some(Place { sid, peer, texts, last_sequence: 0, read: 0, waiting, own });
    }

    fn let_back(&mut self, request: &proto::JoinRequest) {
        let Some(place) = self.place.as_ref().filter(|place| place.sid == request.participant_sid) else {
            return self.say(Response::Leave(proto::LeaveRequest {
                reason: proto::DisconnectReason::StateMismatch as i32,
                action: proto::leave_request::Action::Reconnect as i32,
                ..Default::default()
            }));
        };
        let mut me = person(&place.sid, "me");
        let muted = |sid: &String| self.muted_own.contains(sid);
        me.tracks = place.own.values().map(|sid| proto::TrackInfo { muted: muted(sid), ..track(sid) }).collect();
        let reconnect = proto::ReconnectResponse { last_message_seq: place.last_sequence, ..Default::default() };
        self.say(Response::Reconnect(reconnect));
        let participants = self.people.iter().cloned().chain([me]).collect();
        self.say(Response::Update(proto::ParticipantUpdate { participants }));
    }

    pub(super) fn answer(&mut self, request: Request) {
        match &request {
            Request::PingReq(ping) => {
                let pong = proto::Pong { last_ping_timestamp: ping.timestamp, timestamp: 0 };
                return self.say(Response::PongResp(pong));
            }
            Request::Offer(offer) => {
                let offer = Description { id: offer.id, sdp: offer.sdp.clone() };
                if let Some(mut place) = self.place.take_if(|_| self.offers == Offers::Answered) {
                    let mut answer = place.peer.answer(&offer).message("answer");
                    place.assign();
                    answer.mid_to_track_id = place.peer.tracks.clone();
                    self.say(Response::Answer(answer));
                    self.say_candidate(&place.peer);
                    self.place = Some(place);
                }
            }
            Request::Subscription(update) => self.take_subscription(update),
            Request::AddTrack(track) => self.add_track(track),
            Request::SyncState(state) => self.sync(state),
            Request::UpdateMetadata(update) => {
                let (request_id, reason) = (update.request_id, self.answers as i32);
                let answer = proto::RequestResponse { request_id, reason, ..Default::default() };
                self.say(Response::RequestResponse(answer));
            }
            Request::Leave(_) => self.place = None,
            _ => {}
        }
        self.requests.push(request);
    }

    /// LiveKit's server wants a line for a track, or an offer where a free line will do.
    fn take_subscription(&mut self, update: &proto::UpdateSubscription) {
        let Some(place) = &mut self.place else { return };
        for sid in &update.track_sids {
            place.waiting.retain(|other| other != sid);
            if update.subscribe && !place.peer.tracks.values().any(|other| other == sid) {
                place.waiting.push(sid.clone());
            } else if !update.subscribe {
                place.peer.tracks.retain(|_, other| other != sid);
            }
        }
        let is_free = !place.peer.free_sections().is_empty() || place.waiting.is_empty();
        let num_audios = if is_free { 0 } else { u32::try_from(place.waiting.len()).unwrap() };
        self.say(Response::MediaSectionsRequirement(proto::MediaSectionsRequirement { num_audios, num_videos: 0 }));
    }

    fn add_track(&mut self, request: &proto::AddTrackRequest) {
        if let Some(reason) = self.refuses_tracks {
            let request = Some(proto::request_response::Request::AddTrack(request.clone()));
            let answer = proto::RequestResponse { reason: reason as i32, request, ..Default::default() };
            return self.say(Response::RequestResponse(answer));
        }
        self.own_tracks += 1;
        let sid = format!("TR_own{}", self.own_tracks);
        let track = proto::TrackInfo {
            sid: sid.clone(),
            name: request.name.clone(),
            r#type: request.r#type,
            source: request.source,
            muted: request.muted,
            ..Default::default()
        };
        if let Some(place) = &mut self.place {
            assert!(place.own.insert(request.cid.clone(), sid).is_none(), "a name that is known");
        }
        let (cid, track) = (request.cid.clone(), Some(track));
        self.say(Response::TrackPublished(proto::TrackPublishedResponse { cid, track }));
    }

    /// A server that does not know one of the tracks orders a new join.
    fn sync(&mut self, state: &proto::SyncState) {
        let Some(place) = &mut self.place else { return };
        let sids = state.publish_tracks.iter().map(|track| track.track.as_ref().map_or("", |info| &info.sid));
        if sids.clone().any(|sid| !place.own.values().any(|own| own == sid)) {
            return self.dismiss(proto::DisconnectReason::StateMismatch, proto::leave_request::Action::Reconnect);
        }
        if let Some(update) = &state.subscription {
            self.take_subscription(update);
        }
    }

    /// Somebody publishes a track.
    pub(in crate::session::tests) fn publishes(&mut self, identity: &str, sid: &str) {
        self.changes(identity, |person| person.tracks.push(track(sid)));
    }

    /// Somebody ends a track.
    pub(in crate::session::tests) fn unpublishes(&mut self, identity: &str, sid: &str) {
        self.changes(identity, |person| person.tracks.retain(|track| track.sid != sid));
    }

    /// Something of somebody changes.
    pub(in crate::session::tests) fn changes(
        &mut self,
        identity: &str,
        change: impl FnOnce(&mut proto::ParticipantInfo),
    ) {
        let person = self.people.iter_mut().find(|person| person.identity == identity).unwrap();
        change(person);
        person.version += 1;
        let participants = vec![person.clone()];
        self.say(Response::Update(proto::ParticipantUpdate { participants }));
    }

    fn say_candidate(&mut self, peer: &OtherSide) {
        let candidate_init = peer.candidate();
        self.say(Response::Trickle(proto::TrickleRequest { candidate_init, ..Default::default() }));
    }
}

impl Place {
    /// Send tracks that wait on the lines that are free.
    fn assign(&mut self) {
        for section in self.peer.free_sections() {
            if !self.waiting.is_empty() {
                self.peer.tracks.insert(section, self.waiting.remove(0));
            }
        }
    }

    /// Read what came as LiveKit's server does: what is not new is dropped.
    pub(super) fn read_texts(&mut self) {
        for (label, bytes) in self.peer.received.get(self.read..).unwrap_or_default() {
            let packet = proto::DataPacket::decode(bytes.as_slice()).unwrap();
            if label == "_reliable" && packet.sequence > self.last_sequence {
                self.last_sequence = packet.sequence;
                if let Some(proto::data_packet::Value::StreamChunk(chunk)) = packet.value {
                    self.texts.push(String::from_utf8(chunk.content).unwrap());
                }
            }
        }
        self.read = self.peer.received.len();
    }

    /// Send a data packet of `ann`.
    pub(in crate::session::tests) fn send_data(&mut self, sequence: u32, payload: &str) {
        let user = proto::UserPacket { payload: payload.into(), topic: Some("t".into()), ..Default::default() };
        let packet = proto::DataPacket {
            participant_identity: "ann".into(),
            participant_sid: "PA_ann".into(),
            sequence,
            value: Some(proto::data_packet::Value::User(user)),
            ..Default::default()
        };
        self.peer.write("_reliable", &packet.encode_to_vec());
    }
}

/// Somebody who is active in the room.
pub(in crate::session::tests) fn person(sid: &str, identity: &str) -> proto::ParticipantInfo {
    let state = proto::participant_info::State::Active as i32;
    proto::ParticipantInfo { sid: sid.into(), identity: identity.into(), state, ..Default::default() }
}

/// A track of sound from a microphone.
pub(in crate::session::tests) fn track(sid: &str) -> proto::TrackInfo {
    let (r#type, source) = (proto::TrackType::Audio as i32, proto::TrackSource::Microphone as i32);
    proto::TrackInfo { sid: sid.into(), r#type, source, mime_type: "audio/opus".into(), ..Default::default() }
}

//! What clients of a hosted room send, and what must hold for the room, whatever it is.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_token::VideoGrants;
use prost::Message as _;
use proto::signal_request::Message as Request;
use wasm_worker_dispatcher::bare::BareRoomHost;

use crate::parts::parts;

/// A step that takes time takes up to 26 seconds.
const TICK: Duration = Duration::from_millis(100);

/// A part begins with a letter. After it:
///
/// - `j`: a request to join, after one byte that says who comes;
/// - `m`: a message, after the number of its link;
/// - `o`: the text of an offer, after the number of its link;
/// - `p`: a packet of the data channels, after the number of its sender; an even one has the reliable channel;
/// - `g`: a datagram, after the number of its participant.
///
/// Another part has steps of two bytes: what happens, and which.
pub fn run(bytes: &[u8]) {
    play(bytes);
}

/// Run an input. Returns the most participants and the most tracks that there were at once.
pub fn play(bytes: &[u8]) -> (usize, usize) {
    let mut run = Run { host: BareRoomHost::default(), link: 0, most: (0, 0) };
    for part in parts(bytes) {
        let number = part.get(1).copied().unwrap_or_default();
        let rest = part.get(2..).unwrap_or_default();
        match part.first() {
            Some(b'j') => {
                if let Ok(request) = proto::JoinRequest::decode(rest) {
                    run.enter(number, request);
                }
            }
            Some(b'm') => run.host.receive(number.into(), rest),
            Some(b'o') => run.offer(number.into(), String::from_utf8_lossy(rest).into_owned()),
            Some(b'p') => run.host.packet(usize::from(number / 2), number.is_multiple_of(2), rest),
            Some(b'g') => {
                run.host.datagram(usize::from(number / 2), !number.is_multiple_of(2), 1_000 + u16::from(number), rest)
            }
            _ => part.chunks_exact(2).for_each(|step| {
                run.step(step[0], step[1]);
                run.count();
            }),
        }
        run.count();
    }
    run.host.empty();
    run.most
}

struct Run {
    host: BareRoomHost,
    /// The link that requests come on.
    link: usize,
    /// Participants and tracks.
    most: (usize, usize),
}

impl Run {
    fn count(&mut self) {
        let participants = self.host.participants();
        let tracks = participants.iter().map(|participant| participant.tracks.len()).sum();
        self.most = (participants.len().max(self.most.0), self.most.1.max(tracks));
    }

    fn enter(&mut self, who: u8, request: proto::JoinRequest) {
        let grants = VideoGrants { room_join: true, room: "lobby".into(), ..VideoGrants::default() };
        let grants = match who / 8 % 6 {
            0 | 1 => VideoGrants { can_update_own_metadata: Some(true), ..grants },
            2 => VideoGrants { hidden: true, ..grants },
            3 => VideoGrants { agent: true, ..grants },
            4 => VideoGrants { can_publish: Some(false), can_publish_data: Some(false), ..grants },
            _ => VideoGrants { can_subscribe: Some(false), ..grants },
        };
        self.host.enter(&identity(who), grants, who >= 128, request);
    }

    fn offer(&mut self, link: usize, sdp: String) {
        self.host.request(link, Request::Offer(description("offer", sdp)));
    }

    /// The sid of a track, or none that there is.
    fn track(&self, which: u8) -> String {
        let mut tracks = self.host.participants().into_iter().flat_map(|participant| participant.tracks);
        tracks.nth(usize::from(which % 8)).map_or_else(|| "TR_none".into(), |track| track.sid)
    }

    /// The sid of a participant, or none that there is.
    fn participant(&self, which: u8) -> String {
        let participants = self.host.participants();
        participants.get(usize::from(which % 8)).map_or_else(|| "PA_none".into(), |one| one.sid.clone())
    }

    fn step(&mut self, what: u8, which: u8) {
        match what {
            b'K' => self.link = usize::from(which),
            b'E' => self.enter(which, joins(which)),
            b'R' => {
                let (reconnect, participant_sid) = (true, self.participant(which / 8));
                self.enter(which, proto::JoinRequest { reconnect, participant_sid, ..Default::default() });
            }
            b'l' => self.host.lose_link(which.into()),
            b'w' => self.host.pass(TICK * which.into()),
            b'd' => {
                let packet = proto::DataPacket { sequence: which.into(), value: Some(user()), ..Default::default() };
                self.host.packet(usize::from(which % 8), which < 128, &packet.encode_to_vec());
            }
            b'x' => self.host.remove_participant(&identity(which)),
            b'G' => {
                let permission = proto::ParticipantPermission {
                    can_publish: which & 8 == 0,
                    can_subscribe: which & 16 == 0,
                    can_publish_data: which & 32 == 0,
                    hidden: which & 64 != 0,
                    ..Default::default()
                };
                let (identity, permission) = (identity(which), Some(permission));
                let metadata = "m".repeat(usize::from(which) * 100);
                let update = proto::UpdateParticipantRequest { identity, permission, metadata, ..Default::default() };
                self.host.update_participant(&update);
            }
            b'u' => {
                let (identity, track_sid, muted) = (identity(which), self.track(which / 8), which < 128);
                let request = proto::MuteRoomTrackRequest { identity, track_sid, muted, ..Default::default() };
                self.host.mute_track(&request);
            }
            b'b' => {
                let (identity, track_sids, subscribe) = (identity(which), vec![self.track(which / 8)], which < 128);
                let request =
                    proto::UpdateSubscriptionsRequest { identity, track_sids, subscribe, ..Default::default() };
                self.host.subscribe(request);
            }
            b's' => {
                let destination_identities = if which < 128 { vec![identity(which)] } else { Vec::new() };
                let data = vec![which; usize::from(which) * 100];
                self.host.send_data(proto::SendDataRequest { data, destination_identities, ..Default::default() });
            }
            _ => {
                if let Some(request) = self.request(what, which) {
                    self.host.request(self.link, request);
                }
            }
        }
    }

    /// A request that has been put together.
    fn request(&self, what: u8, which: u8) -> Option<Request> {
        Some(match what {
            b'O' => Request::Offer(description("offer", offer(which))),
            b'N' => Request::Answer(description("answer", offer(which).replace("actpass", "active"))),
            b'A' => Request::AddTrack(proto::AddTrackRequest {
                cid: cid(which),
                r#type: i32::from(which >= 192),
                source: i32::from(which / 8 % 4),
                muted: which >= 128,
                ..Default::default()
            }),
            b'M' => Request::Mute(proto::MuteTrackRequest { sid: self.track(which), muted: which >= 128 }),
            b'S' => Request::Subscription(proto::UpdateSubscription {
                track_sids: vec![self.track(which)],
                subscribe: which >= 128,
                ..Default::default()
            }),
            b'T' => Request::TrackSetting(proto::UpdateTrackSettings {
                track_sids: vec![self.track(which)],
                disabled: which >= 128,
                ..Default::default()
            }),
            b'P' => Request::SubscriptionPermission(proto::SubscriptionPermission {
                all_participants: which & 1 == 1,
                track_permissions: vec![proto::TrackPermission {
                    participant_identity: identity(which / 2),
                    all_tracks: which & 64 != 0,
                    track_sids: vec![self.track(which / 8)],
                    ..Default::default()
                }],
            }),
            b'U' => Request::UpdateMetadata(proto::UpdateParticipantMetadata {
                name: "n".repeat(usize::from(which % 16)),
                metadata: "m".repeat(usize::from(which) * 100),
                attributes: [(format!("a{}", which % 4), "v".repeat(usize::from(which)))].into(),
                request_id: which.into(),
            }),
            b'Y' => Request::SyncState(proto::SyncState {
                datachannel_receive_states: vec![proto::DataChannelReceiveState {
                    publisher_sid: self.participant(which),
                    last_seq: u32::from(which / 8),
                }],
                ..Default::default()
            }),
            b'L' => Request::Leave(proto::LeaveRequest::default()),
            b'i' => Request::PingReq(proto::Ping::default()),
            _ => return None,
        })
    }
}

fn identity(which: u8) -> String {
    format!("p{}", which % 8)
}

fn cid(which: u8) -> String {
    format!("c{}", which % 4)
}

fn joins(which: u8) -> proto::JoinRequest {
    let auto_subscribe = which & 64 == 0;
    proto::JoinRequest {
        publisher_offer: (which < 192).then(|| description("offer", offer(which))),
        connection_settings: Some(proto::ConnectionSettings { auto_subscribe, ..Default::default() }),
        ..Default::default()
    }
}

fn user() -> proto::data_packet::Value {
    proto::data_packet::Value::User(proto::UserPacket { payload: b"hello".to_vec(), ..Default::default() })
}

fn description(kind: &str, sdp: String) -> proto::SessionDescription {
    proto::SessionDescription { r#type: kind.into(), sdp, id: 1, ..Default::default() }
}

/// An offer with data channels and some lines for sound, which carry tracks, take some, or do neither.
fn offer(which: u8) -> String {
    let lines = which % 8;
    let peer = "c=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:actpass\r\n";
    let print = ["A5"; 32].join(":");
    let group: String = (0..=lines).map(|mid| format!(" {mid}")).collect();
    let mut sdp = format!("v=0\r\no=- 1 {which} IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE{group}\r\n");
    sdp += &format!("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{peer}a=fingerprint:sha-256 {print}\r\n");
    sdp += "a=mid:0\r\na=sctp-port:5000\r\n";
    for mid in 1..=lines {
        let way = ["sendonly", "recvonly", "sendrecv", "inactive"][usize::from((which / 8 + mid - 1) % 4)];
        let cid = cid(mid);
        sdp += &format!(
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{peer}a=fingerprint:sha-256 {print}\r\na=mid:{mid}\r\na=rtcp-mux\r\n\
             a={way}\r\na=msid:s {cid}\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:{mid} cname:x\r\n"
        );
    }
    sdp
}

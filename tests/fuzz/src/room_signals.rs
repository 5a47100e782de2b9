//! What a server sends on the link of a room, and what must hold for the room, whatever it is.

use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use proto::signal_response::Message as Response;
use wasm_worker_core::room::audio::{AudioCommand, Publication, Rule, Subscription};
use wasm_worker_core::room::command::{AgentState, Command, SendOptions};
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_room::bare::{BareOutputs, BareRoom};

use crate::parts::parts;
use crate::room_story::{Story, TOKEN};

/// A step that takes time takes up to 26 seconds.
const TICK: Duration = Duration::from_millis(100);
/// Most events and messages that one input of a step leads to, beside those of the people in the room.
const OUTPUTS_MAX: usize = 1_000;
const PEOPLE_MAX: usize = 100;

/// A part that begins with `m` is a message of the server. Another part has steps of two bytes: what happens, and which.
pub fn run(bytes: &[u8]) {
    let mut run = Run { room: BareRoom::new(TOKEN), story: Story::of_room(), next_id: 1 };
    for part in parts(bytes) {
        match part.split_first() {
            Some((b'm', message)) => {
                run.room.receive(message);
                run.check();
            }
            _ => part.chunks_exact(2).for_each(|step| run.step(step[0], step[1])),
        }
    }
    run.finish();
}

struct Run {
    room: BareRoom,
    story: Story,
    next_id: u32,
}

impl Run {
    fn step(&mut self, what: u8, which: u8) {
        let number = u32::from(which);
        match what {
            b'C' => self.operation(|id| Command::Connect { id }),
            b'D' => self.room.perform(Command::Disconnect),
            b'A' => self.operation(|id| Command::SetAttributes { id, attributes: vec![("a".into(), "b".into())] }),
            b'N' => self.operation(|id| Command::SetName { id, name: "x".repeat(usize::from(which)) }),
            b'T' => self.operation(|id| Command::SendText {
                id,
                topic: "t".into(),
                text: "hello".into(),
                options: SendOptions::default(),
            }),
            b'P' => {
                self.operation(|id| Command::Audio(AudioCommand::Publish { id, publication: Publication::default() }))
            }
            b'H' => self.operation(|id| {
                let (rule, options) = (Rule { people: which & 1 == 1, ..Rule::default() }, Subscription::default());
                Command::Audio(AudioCommand::Follow { id, rule, options })
            }),
            b'B' => self.operation(|id| {
                let (track_sid, options) = (format!("TR_PA_{}", which % 8), Subscription::default());
                Command::Audio(AudioCommand::Subscribe { id, track_sid, options })
            }),
            b'W' => {
                let (id, pcm) = (self.next_id.saturating_sub(number % 4 + 1), vec![which; usize::from(which) * 100]);
                self.room.perform(Command::Audio(AudioCommand::Write { id, pcm }));
            }
            b'E' => {
                let id = self.next_id.saturating_sub(number % 4 + 1);
                self.room.perform(Command::Audio(AudioCommand::Close { id }));
            }
            b'S' => self.room.perform(Command::SetAgentState { state: AgentState::Thinking }),
            b'X' => {
                let id = self.next_id.saturating_sub(number % 4 + 1);
                self.story.give_up(id);
                self.room.perform(Command::Cancel { id });
            }
            b'o' => self.room.link_opens(),
            b'f' => self.room.link_fails([0, 401, 403, 404, 429, 503][usize::from(which) % 6]),
            b'l' => self.room.link_is_lost(),
            b'w' => self.room.pass(TICK * number),
            _ => {
                if let Some(message) = message(what, which) {
                    self.room.receive(&proto::SignalResponse { message: Some(message) }.encode_to_vec());
                }
            }
        }
        self.check();
    }

    fn operation(&mut self, command: impl FnOnce(u32) -> Command) {
        let id = self.next_id;
        self.next_id += 1;
        self.story.begin(id);
        self.room.perform(command(id));
    }

    fn check(&mut self) {
        let BareOutputs { dialled, messages, reached, events } = self.room.take_outputs();
        assert!(dialled <= OUTPUTS_MAX && messages <= OUTPUTS_MAX && reached <= OUTPUTS_MAX);
        let own = events.iter().filter(|event| !matches!(event, RoomEvent::Done(_) | RoomEvent::Failed(_)));
        let count = own.count();
        // Each person may have 64 tracks.
        assert!(count <= OUTPUTS_MAX + PEOPLE_MAX * 130, "{count} events");
        events.iter().for_each(|event| self.story.take(event));
    }

    /// Whatever happened, the room can be left, and nothing is open then.
    fn finish(mut self) {
        self.room.perform(Command::Disconnect);
        self.check();
        self.room.pass(Duration::from_secs(60));
        self.check();
        assert!(self.story.is_quiet(), "something is open in a room that is left");
    }
}

/// A message that has been put together.
fn message(what: u8, which: u8) -> Option<Response> {
    let number = i32::from(which);
    Some(match what {
        b'j' => Response::Join(proto::JoinResponse {
            room: Some(proto::Room { name: "lobby".into(), ..Default::default() }),
            participant: Some(person("PA_me", "me", 2)),
            other_participants: (0..which % 8).map(|at| person(&format!("PA_{at}"), &format!("p{at}"), 2)).collect(),
            ping_interval: number % 7,
            ping_timeout: number % 17,
            ..Default::default()
        }),
        b'r' => Response::Reconnect(proto::ReconnectResponse { last_message_seq: which.into(), ..Default::default() }),
        b'u' => {
            let (at, state) = (which % 8, number / 8 % 4);
            let sid = format!("PA_{}{}", at, if which >= 128 { "again" } else { "" });
            Response::Update(proto::ParticipantUpdate { participants: vec![person(&sid, &format!("p{at}"), state)] })
        }
        b'a' => Response::Answer(proto::SessionDescription {
            r#type: "answer".into(),
            sdp: "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".into(),
            id: which.into(),
            ..Default::default()
        }),
        b'L' => Response::Leave(proto::LeaveRequest { action: number % 4, reason: number / 4, ..Default::default() }),
        b'p' => Response::PongResp(proto::Pong { last_ping_timestamp: number.into(), timestamp: 0 }),
        b'k' => Response::RefreshToken(TOKEN.into()),
        b'q' => Response::RequestResponse(proto::RequestResponse {
            request_id: which.into(),
            reason: number % 9,
            ..Default::default()
        }),
        b'v' => Response::RoomUpdate(proto::RoomUpdate {
            room: Some(proto::Room { name: "lobby".into(), num_participants: which.into(), ..Default::default() }),
        }),
        b's' => Response::SpeakersChanged(proto::SpeakersChanged {
            speakers: vec![proto::SpeakerInfo {
                sid: format!("PA_{}", which % 8),
                level: f32::from(which) / 10.0,
                active: which & 1 == 1,
            }],
        }),
        b't' => Response::Trickle(proto::TrickleRequest {
            candidate_init: format!(r#"{{"candidate":"candidate:1 1 udp 1 192.0.2.9 {number} typ host"}}"#),
            ..Default::default()
        }),
        b'M' => Response::RoomMoved(proto::RoomMovedResponse {
            room: Some(proto::Room { name: format!("room {which}"), ..Default::default() }),
            token: TOKEN.into(),
            participant: Some(person("PA_me", "me", 2)),
            other_participants: vec![person(&format!("PA_{}", which % 8), "moved", 2)],
        }),
        _ => return track_message(what, which),
    })
}

/// A message about a track.
fn track_message(what: u8, which: u8) -> Option<Response> {
    Some(match what {
        b'n' => Response::TrackPublished(proto::TrackPublishedResponse {
            cid: format!("sound-bare-{}", which % 4),
            track: (which < 128)
                .then(|| proto::TrackInfo { sid: format!("TR_own{}", which % 4), ..Default::default() }),
        }),
        b'i' => {
            let (sid, muted) = (format!("TR_own{}", which % 4), which & 4 == 4);
            Response::Mute(proto::MuteTrackRequest { sid, muted })
        }
        b'e' => {
            let track_sid = format!("TR_own{}", which % 4);
            Response::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid })
        }
        b'd' => Response::TrackSubscribed(proto::TrackSubscribed { track_sid: format!("TR_own{}", which % 4) }),
        b'g' => {
            let (track_sid, err) = (format!("TR_PA_{}", which % 8), i32::from(which) / 8 % 4);
            Response::SubscriptionResponse(proto::SubscriptionResponse { track_sid, err })
        }
        b'c' => {
            let (num_audios, num_videos) = (if which == 255 { u32::MAX } else { which.into() }, 1);
            Response::MediaSectionsRequirement(proto::MediaSectionsRequirement { num_audios, num_videos })
        }
        _ => return None,
    })
}

fn person(sid: &str, identity: &str, state: i32) -> proto::ParticipantInfo {
    let track = proto::TrackInfo { sid: format!("TR_{sid}"), ..Default::default() };
    let (sid, identity) = (sid.to_owned(), identity.to_owned());
    proto::ParticipantInfo { sid, identity, state, tracks: vec![track], ..Default::default() }
}

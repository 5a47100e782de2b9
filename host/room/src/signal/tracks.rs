//! What the server says about tracks: those of the agent, and those that it subscribed to.

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message as Response;
use tokio::time::Instant;

use super::Signal;
use wasm_worker_core::room::people::{Participant, Track};

/// News of a track.
#[derive(Debug, PartialEq)]
pub(crate) enum TrackNews {
    /// The agent's track that was announced under this name has these facts.
    Announced { name: String, info: Box<proto::TrackInfo> },
    /// The agent's track that was announced under this name is refused.
    Refused { name: String, code: &'static str, message: String },
    /// The server ended the agent's track.
    Unpublished { track_sid: String },
    /// The server muted or unmuted the agent's track.
    Muted { track_sid: String, muted: bool },
    /// The agent's own tracks as the server has them after a resumption: which are muted.
    Own { muted: Vec<(String, bool)> },
    /// The server has got all requests that were made before this time.
    Heeded { before: Instant },
    /// Somebody hears the agent's track.
    Subscribed { track_sid: String },
    /// The server sends no sound of a track that the agent subscribed to.
    NotSubscribed { track_sid: String, code: &'static str, message: &'static str },
    /// The server wants an offer with so many lines more for sound.
    LinesWanted { count: u32 },
}

impl TrackNews {
    /// The news in a message of the server; none where it tells other things.
    pub(super) fn of(message: Response) -> Option<Self> {
        Some(match message {
            Response::TrackPublished(proto::TrackPublishedResponse { cid: name, track: Some(track) }) => {
                Self::Announced { name, info: Box::new(track) }
            }
            Response::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid }) => {
                Self::Unpublished { track_sid }
            }
            Response::Mute(proto::MuteTrackRequest { sid: track_sid, muted }) => Self::Muted { track_sid, muted },
            Response::TrackSubscribed(proto::TrackSubscribed { track_sid }) => Self::Subscribed { track_sid },
            Response::SubscriptionResponse(proto::SubscriptionResponse { track_sid, err }) => {
                let (code, message) = match proto::SubscriptionError::try_from(err) {
                    Ok(proto::SubscriptionError::SeCodecUnsupported) => {
                        ("not-supported", "the server cannot send this track as Opus")
                    }
                    Ok(proto::SubscriptionError::SeTrackNotfound) => ("invalid", "the server knows no such track"),
                    Ok(proto::SubscriptionError::SeUnknown) | Err(_) => ("refused", "the server sends no such track"),
                };
                Self::NotSubscribed { track_sid, code, message }
            }
            Response::SubscriptionPermissionUpdate(proto::SubscriptionPermissionUpdate {
                track_sid,
                allowed: false,
                ..
            }) => Self::NotSubscribed {
                track_sid,
                code: "not-allowed",
                message: "the publisher of the track does not let the agent hear it",
            },
            // Pictures are never subscribed to.
            Response::MediaSectionsRequirement(proto::MediaSectionsRequirement { num_audios, .. }) => {
                Self::LinesWanted { count: num_audios }
            }
            _ => return None,
        })
    }

    /// The news in the answer to a request; none where it was no request for a track.
    pub(super) fn of_answer(answer: &proto::RequestResponse) -> Option<Self> {
        use proto::request_response::{Reason, Request};
        let Some(Request::AddTrack(request)) = &answer.request else { return None };
        let code = match Reason::try_from(answer.reason) {
            // It is announced later.
            Ok(Reason::Ok | Reason::Queued) => return None,
            Ok(Reason::NotAllowed) => "not-allowed",
            Ok(Reason::LimitExceeded) => "limit",
            Ok(Reason::UnsupportedType) => "not-supported",
            _ => "refused",
        };
        let message = wasm_worker_core::text::clip(&format!("the server takes no such track: {}", answer.message));
        Some(Self::Refused { name: request.cid.clone(), code, message })
    }
}

impl Signal {
    /// The track of this id, with its publisher.
    pub(crate) fn track(&self, sid: &str) -> Option<(&Participant, &Track)> {
        self.people.track(sid)
    }

    /// The same, where the publisher is known.
    pub(crate) fn track_of(&self, identity: &str, sid: &str) -> Option<(&Participant, &Track)> {
        self.people.track_of(identity, sid)
    }

    /// All tracks of others, with their publishers.
    pub(crate) fn tracks(&self) -> impl Iterator<Item = (&Participant, &Track)> {
        self.people.tracks()
    }

    /// The agent itself, as the server knows it.
    pub(crate) const fn own(&self) -> &Participant {
        self.people.own()
    }
}

//! The messages of clients. Those about media have no effect yet.

use livekit_protocol as proto;
use proto::DisconnectReason as Reason;
use proto::leave_request::Action;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;

use super::Room;
use crate::clock::Moment;
use crate::ids::new_id;
use crate::room_host::member::{LinkId, MemberId};

impl Room {
    /// A message came on a link.
    pub(in crate::room_host) fn receive(&mut self, link: LinkId, request: proto::SignalRequest, now: Moment) {
        let (Some(id), Some(message)) = (self.by_link.get(&link).copied(), request.message) else { return };
        let now_ms = now.wall_ns / 1_000_000;
        match message {
            Request::Offer(offer) => self.answer(id, &offer, now),
            Request::Leave(_) => self.remove(id, Reason::ClientInitiated, Action::Disconnect, now),
            Request::UpdateMetadata(update) => self.update_own(id, update),
            Request::SyncState(state) => self.send_again(id, &state, now),
            Request::AddTrack(track) => self.add_track(id, track),
            Request::PingReq(ping) => {
                let pong = proto::Pong { last_ping_timestamp: ping.timestamp, timestamp: now_ms };
                self.tell(id, Response::PongResp(pong));
            }
            Request::Ping(_) => self.tell(id, Response::Pong(now_ms)),
            // The addresses of a client are learnt from its datagrams.
            Request::Trickle(_) => {}
            _ => {}
        }
        self.settle(now);
    }

    /// Confirm a track, so that its publisher does not wait. Others are not told: nothing of it is forwarded yet.
    pub(super) fn add_track(&mut self, id: MemberId, request: proto::AddTrackRequest) {
        let track = proto::TrackInfo {
            sid: new_id("TR_", &mut self.rng),
            r#type: request.r#type,
            name: request.name,
            source: request.source,
            muted: request.muted,
            ..Default::default()
        };
        let published = proto::TrackPublishedResponse { cid: request.cid, track: Some(track) };
        self.tell(id, Response::TrackPublished(published));
    }
}

//! The messages of clients.

use livekit_protocol as proto;
use proto::DisconnectReason as Reason;
use proto::leave_request::Action;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;

use super::Room;
use crate::clock::Moment;
use crate::room_host::member::{LinkId, MemberId};

impl Room {
    /// A message came on a link.
    pub(in crate::room_host) fn receive(&mut self, link: LinkId, request: proto::SignalRequest, now: Moment) {
        let (Some(id), Some(message)) = (self.by_link.get(&link).copied(), request.message) else { return };
        let now_ms = now.wall_ns / 1_000_000;
        match message {
            Request::Offer(offer) => self.answer(id, &offer, now),
            Request::Answer(answer) => self.answered(id, &answer, now),
            Request::Leave(_) => self.remove(id, Reason::ClientInitiated, Action::Disconnect, now),
            Request::UpdateMetadata(update) => self.update_own(id, update, now),
            Request::SyncState(state) => self.sync(id, state, now),
            Request::AddTrack(track) => self.add_track(id, track, now),
            Request::PublishDataTrackRequest(track) => self.refuse_data_track(id, track),
            Request::Mute(mute) => self.mute_own(id, &mute, now),
            Request::Subscription(subscription) => self.update_subscription(id, subscription),
            Request::TrackSetting(setting) => self.pause(id, &setting.track_sids, setting.disabled),
            Request::SubscriptionPermission(permission) => self.set_audience(id, permission, now),
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

    /// A participant that came back tells what it has. One that publishes what the room does not know joins again.
    fn sync(&mut self, id: MemberId, state: proto::SyncState, now: Moment) {
        let Some(member) = self.members.get(&id) else { return };
        let tracks = state.publish_tracks.iter().map(|published| published.track.as_ref());
        let is_known = |track: Option<&proto::TrackInfo>| track.is_some_and(|track| member.tracks.has(&track.sid));
        if !tracks.into_iter().all(is_known) {
            return self.remove(id, Reason::StateMismatch, Action::Reconnect, now);
        }
        if let Some(subscription) = state.subscription.clone() {
            self.update_subscription(id, subscription);
        }
        self.pause(id, &state.track_sids_disabled, true);
        self.send_again(id, &state, now);
    }
}

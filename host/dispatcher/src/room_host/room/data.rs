//! The packets of the data channels, from one participant to others.

use std::collections::HashMap;
use std::sync::Arc;

use livekit_protocol as proto;
use proto::DisconnectReason as Reason;
use proto::leave_request::Action;

use super::Room;
use crate::clock::Moment;
use crate::room_host::member::MemberId;
use crate::room_host::packets::{self, DataError, Packet};
use crate::room_host::peer::Channel;

impl Room {
    /// Data of a caller of the API.
    pub(in crate::room_host) fn send_data(
        &mut self,
        request: proto::SendDataRequest,
        now: Moment,
    ) -> Result<(), DataError> {
        let (channel, packet) = packets::from_api(request)?;
        self.deliver(None, channel, packet, now);
        self.settle(now);
        Ok(())
    }

    /// A participant sent a packet.
    pub(super) fn forward(&mut self, from: MemberId, channel: Channel, bytes: &[u8], now: Moment) {
        let Some(member) = self.members.get_mut(&from).filter(|member| member.permission.can_publish_data) else {
            return;
        };
        let Some(packet) = packets::from_sender(bytes, channel, member.sender()) else { return };
        if packet.sequence > 0 {
            // It was sent again after a resumption.
            if packet.sequence <= member.last_sequence {
                return;
            }
            member.last_sequence = packet.sequence;
        }
        let sid = member.sid.clone();
        self.deliver(Some((from, sid)), channel, packet, now);
    }

    /// Give a packet to its receivers. None of them waits for another: one that is too slow loses it, or leaves.
    fn deliver(&mut self, from: Option<(MemberId, Arc<str>)>, channel: Channel, packet: Packet, now: Moment) {
        let bytes: Arc<[u8]> = packet.bytes.into();
        let sender = from.as_ref().map(|(id, _)| *id);
        let mut too_slow = Vec::new();
        for (id, member) in &mut self.members {
            if sender == Some(*id) || !packet.to.include(&member.sid, member.identity()) {
                continue;
            }
            match channel {
                // What is lossy is lost first.
                Channel::Lossy if member.outbox.front().is_some() => {}
                Channel::Lossy => drop(member.getting_peer().write(channel, &bytes, now.at)),
                Channel::Reliable if member.outbox.put(bytes.clone()) => member.pump(now.at),
                Channel::Reliable => too_slow.push(*id),
            }
            self.touched.insert(*id);
        }
        if let Some((_, sid)) = from {
            self.history.keep(&sid, packet.sequence, packet.to, &bytes, now.at);
        }
        for id in too_slow {
            self.remove(id, Reason::ConnectionTimeout, Action::Reconnect, now);
        }
    }

    /// Send more of what waits for a participant.
    pub(super) fn pump(&mut self, id: MemberId, now: Moment) {
        if let Some(member) = self.members.get_mut(&id) {
            member.pump(now.at);
            self.touched.insert(id);
        }
    }

    /// The data channels of a participant are open.
    pub(super) fn ready(&mut self, id: MemberId, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if !member.is_active {
            member.change(|member| member.is_active = true);
            self.tell_changed(id, now);
            self.report_arrival(id, now);
        }
        self.path_found(id);
        self.pump(id, now);
    }

    /// A participant that came back tells what it has: send the rest again, once.
    pub(super) fn send_again(&mut self, id: MemberId, state: &proto::SyncState, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.resumed_at.take().is_none() {
            return;
        }
        let states = state.datachannel_receive_states.iter();
        let has: HashMap<&str, u32> = states.map(|state| (state.publisher_sid.as_str(), state.last_seq)).collect();
        let missing = self.history.after((&member.sid, member.identity()), member.since, &has, now.at);
        // What no longer fits waits already, or comes too late for a client that lost so much.
        let fits = missing.into_iter().all(|packet| member.outbox.put(packet));
        if fits {
            self.pump(id, now);
        } else {
            self.remove(id, Reason::ConnectionTimeout, Action::Reconnect, now);
        }
    }
}

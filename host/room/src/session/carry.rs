//! What the signalling, the peer, the streams and the sound ask of each other, carried from one to the other.

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use prost::Message as _;
use tokio::time::Instant;
use wasm_worker_core::text::with_causes;

use super::{Session, SessionOutput};
use crate::peer::{Peer, PeerOutput, Written};
use crate::signal::{SignalOutput, Way};
use crate::wire::Channel;
use wasm_worker_core::room::event::RoomEvent;

impl Session {
    /// Carry on until nothing is left to do.
    pub(super) fn run(&mut self, now: Instant) {
        self.carry(now);
        let is_over = |by| by <= now || self.signal.is_out() || self.streams.is_delivered();
        if self.leave_by.is_some_and(is_over) {
            self.leave_by = None;
            self.signal.leave();
            self.carry(now);
        }
    }

    fn carry(&mut self, now: Instant) {
        loop {
            let mut is_quiet = !self.take_signal_outputs(now);
            while let Some(output) = self.peer.as_mut().and_then(Peer::next_output) {
                self.take_peer(output, now);
                // The streams learn of a join before the first message that comes after it.
                self.take_signal_outputs(now);
                is_quiet = false;
            }
            self.tell_acknowledged(now);
            is_quiet &= !self.serve_sound(now);
            if is_quiet && !self.send_next(now) {
                return;
            }
        }
    }

    /// Whether there were any.
    pub(super) fn take_signal_outputs(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(output) = self.signal.next_output() {
            self.take_signal(output, now);
            any = true;
        }
        any
    }

    fn take_signal(&mut self, output: SignalOutput, now: Instant) {
        match output {
            SignalOutput::Joining => {
                self.after = Some(self.streams.newest_event());
                self.streams.joining();
                self.sound.coming();
            }
            SignalOutput::Dial(way) => self.dial(way, now),
            SignalOutput::Send(request) => self.send_message(request),
            SignalOutput::HangUp => self.outputs.push_back(SessionOutput::HangUp),
            SignalOutput::Answer { answer, tracks } => {
                let taken = self.peer.as_mut().map(|peer| peer.take_answer(answer, &tracks, now));
                if let Some(Err(error)) = taken {
                    self.signal.peer_closed(&with_causes(&error), now);
                }
            }
            SignalOutput::Candidate(json) => {
                if let Some(peer) = &mut self.peer {
                    peer.take_candidate(&json, now);
                }
            }
            SignalOutput::Resume { restart, last_sequence } => self.resume(restart, last_sequence, now),
            SignalOutput::Joined { identity, anew } => {
                if anew {
                    self.streams.rejoined(now);
                }
                // The first join may take several attempts, each with a peer of its own.
                self.sound.placed();
                self.streams.joined(&identity);
            }
            SignalOutput::DropPeer { tell } => self.drop_peer(tell, now),
            SignalOutput::Left => {
                self.streams.left(now);
                self.after = Some(self.streams.newest_event());
                self.sound.left(now);
                self.tell_sound();
            }
            SignalOutput::Track(news) => {
                self.sound.take_news(news, self.signal.own(), self.peer.as_mut(), now);
                self.tell_sound();
            }
            SignalOutput::Event(event) => self.tell_of_room(event, now),
        }
    }

    fn take_peer(&mut self, output: PeerOutput, now: Instant) {
        match output {
            PeerOutput::Transmit(datagram) => self.outputs.push_back(SessionOutput::Transmit(datagram)),
            PeerOutput::Reach { transport, remote } => {
                self.outputs.push_back(SessionOutput::Reach { transport, remote });
            }
            PeerOutput::Ready => self.signal.peer_ready(now),
            PeerOutput::Message { channel, bytes } => {
                self.packets.received += 1;
                match proto::DataPacket::decode(bytes.as_slice()) {
                    Ok(packet) => self.streams.received(packet, channel == Channel::Reliable, now),
                    Err(_) => self.packets.ignored += 1,
                }
            }
            // Whatever waits is sent after each input.
            PeerOutput::Writable => {}
            PeerOutput::Lines => self.take_lines(now),
            PeerOutput::Sound(line, packet) => self.sound.receive(line, &packet, now),
            PeerOutput::Unreachable => self.signal.peer_unreachable(now),
            PeerOutput::Closed { why } => self.signal.peer_closed(&why, now),
        }
    }

    fn dial(&mut self, way: Way, now: Instant) {
        if way == Way::Join {
            self.drop_peer(false, now);
            self.peer = Some(Peer::new(now));
        }
        let offer = self.peer.as_ref().map(|peer| peer.offer().clone()).unwrap_or_default();
        let request = self.signal.request(way, &offer);
        self.outputs.push_back(SessionOutput::Dial(request));
    }

    /// Tell the server where this side is, and send again what it did not read.
    fn resume(&mut self, restart: bool, last_sequence: u32, now: Instant) {
        let Some(peer) = &mut self.peer else { return };
        let receive_states = self
            .streams
            .heard()
            .map(|(sid, last)| proto::DataChannelReceiveState { publisher_sid: sid.to_owned(), last_seq: last });
        let mut state = proto::SyncState {
            offer: Some(peer.offer().message("offer")),
            answer: Some(peer.answer().message("answer")),
            datachannel_receive_states: receive_states.collect(),
            ..Default::default()
        };
        self.sound.resume(&mut state);
        if restart {
            if !peer.has_path() {
                self.outputs.push_back(SessionOutput::DropTcp);
            }
            peer.restart();
        }
        // An offer without an answer may not have arrived. The next one comes after it.
        let offer = peer.open_offer().map(|offer| offer.message("offer"));
        self.send_message(Request::SyncState(state));
        if let Some(offer) = offer {
            self.send_message(Request::Offer(offer));
        }
        self.streams.resumed(last_sequence, now);
    }

    /// Send the next packet. Whether there was one, and the peer took it.
    fn send_next(&mut self, now: Instant) -> bool {
        if !self.pace.is_due(now) {
            return false;
        }
        let Some(peer) = self.peer.as_mut().filter(|peer| peer.is_ready()) else { return false };
        let Some((channel, packet)) = self.streams.next_packet() else { return false };
        let bytes = packet.encode_to_vec();
        match (peer.write(channel, &bytes, now), channel) {
            (Written::Taken, _) => {
                self.pace.pay(bytes.len(), now);
                self.packets.sent += 1;
                true
            }
            (Written::Full | Written::Closed, Channel::Reliable) => {
                self.streams.refused();
                false
            }
            (Written::Full | Written::Closed, Channel::Lossy) => {
                self.packets.dropped += 1;
                true
            }
        }
    }

    fn tell_acknowledged(&mut self, now: Instant) {
        if let Some(bytes) = self.peer.as_mut().and_then(Peer::unacknowledged)
            && bytes != self.unacknowledged
        {
            self.unacknowledged = bytes;
            self.streams.drained(bytes, now);
        }
    }

    fn drop_peer(&mut self, tell: bool, now: Instant) {
        let Some(mut peer) = self.peer.take() else { return };
        if tell {
            peer.close(now);
            while let Some(output) = peer.next_output() {
                if let PeerOutput::Transmit(datagram) = output {
                    self.outputs.push_back(SessionOutput::Transmit(datagram));
                }
            }
        }
        self.unacknowledged = 0;
        self.outputs.push_back(SessionOutput::DropPaths);
    }

    fn send_message(&mut self, request: Request) {
        let message = proto::SignalRequest { message: Some(request) }.encode_to_vec();
        self.outputs.push_back(SessionOutput::Message(message));
    }

    /// Have due sound go out, and ask the server for what tracks need. Whether anything came of it.
    fn serve_sound(&mut self, now: Instant) -> bool {
        let is_up = self.signal.is_served();
        self.sound.advance(self.peer.as_mut(), is_up, now);
        self.tell_sound();
        let mut any = false;
        while is_up
            && let Some(peer) = &mut self.peer
            && let Some(request) = self.sound.next_request(peer, now).or_else(|| next_offer(peer, now))
        {
            if matches!(request, Request::Mute(_)) {
                // A moderator may mute the track next. Until the proof, a resumption takes such a mute for a lost request of the agent.
                self.signal.prove(now);
            }
            self.send_message(request);
            any = true;
        }
        any || self.peer.as_ref().is_some_and(Peer::has_output)
    }

    /// Have tracks begin whose lines are there.
    pub(super) fn take_lines(&mut self, now: Instant) {
        if let Some(peer) = &self.peer {
            self.sound.take_lines(peer, now);
        }
        self.tell_sound();
    }

    fn tell_sound(&mut self) {
        while let Some(event) = self.sound.next_event() {
            self.tell(event);
        }
    }

    /// Tell what the signalling says, and the streams and the sound what it means for them.
    fn tell_of_room(&mut self, event: RoomEvent, now: Instant) {
        match &event {
            RoomEvent::ParticipantLeft { participant, .. } => {
                // What a participant sent came before it left.
                self.after = Some(self.streams.newest_event());
                self.streams.participant_left(&participant.sid, &participant.identity, now);
            }
            RoomEvent::TrackUnpublished(track) => {
                // What was heard of a track came before its end.
                self.sound.track_gone(&track.sid, now);
                self.tell_sound();
            }
            RoomEvent::TrackPublished(track) => {
                let Self { sound, signal, streams, .. } = self;
                if let Some((publisher, track)) = signal.track_of(&track.participant, &track.sid) {
                    sound.track_published(publisher, track, &mut || streams.new_incoming(), now);
                }
            }
            RoomEvent::TrackChanged(track) => self.sound.track_changed(track, now),
            RoomEvent::Reconnecting => self.sound.coming(),
            RoomEvent::Connected { .. } => {
                self.tell(event);
                let Self { sound, signal, .. } = self;
                sound.connected(signal, now);
                return self.take_lines(now);
            }
            _ => {}
        }
        self.tell(event);
    }
}

/// The next offer, as a request to the server.
fn next_offer(peer: &mut Peer, now: Instant) -> Option<Request> {
    peer.next_offer(now).map(|offer| Request::Offer(offer.message("offer")))
}

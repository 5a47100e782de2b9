//! The outputs of `str0m`: what is sent, and what happened.

use str0m::channel::ChannelId;
use str0m::net::Protocol;
use str0m::{Event, IceConnectionState, Output, RtcError};
use tokio::time::Instant;
use wasm_worker_core::text::with_causes;

use super::output::{Datagram, PeerOutput, Transport};
use super::{BUFFERED_BYTES_LOW, Carrier, Path, Peer};
use crate::wire::Channel;

/// The first byte of a check of ICE is at most this one (RFC 7983).
const STUN_FIRST_MAX: u8 = 3;

impl Peer {
    /// Take all outputs of `str0m`.
    pub(super) fn drain(&mut self) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.wake_at = Instant::from_std(at);
                    if !self.rtc.is_alive() {
                        self.end("the peer connection is over");
                    }
                    return;
                }
                Ok(Output::Transmit(transmit)) => self.transmit(transmit),
                Ok(Output::Event(event)) => self.take_event(event),
                Err(error) => {
                    self.check(Err(error));
                    return;
                }
            }
        }
    }

    fn transmit(&mut self, transmit: str0m::net::Transmit) {
        let transport = match transmit.proto {
            Protocol::Udp => Transport::Udp,
            Protocol::Tcp => Transport::Tcp,
            // No candidate of another protocol is ever added.
            Protocol::SslTcp | Protocol::Tls => return,
        };
        if transmit.contents.first().is_some_and(|first| *first > STUN_FIRST_MAX) {
            self.carrier = Some(Carrier { transport, local: transmit.source, remote: transmit.destination });
        }
        self.outputs.push_back(PeerOutput::Transmit(Datagram {
            transport,
            source: transmit.source,
            destination: transmit.destination,
            bytes: Vec::from(transmit.contents).into_boxed_slice(),
        }));
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::IceConnectionStateChange(state) => self.path_changed(state),
            Event::ChannelOpen(id, _) => self.opened(id),
            Event::ChannelData(data) => {
                if let Some(channel) = self.channel_of(data.id).filter(|_| data.binary) {
                    self.outputs.push_back(PeerOutput::Message { channel, bytes: data.data });
                }
            }
            Event::ChannelBufferedAmountLow(_) => self.outputs.push_back(PeerOutput::Writable),
            Event::ChannelClose(id) if self.channel_of(id).is_some() => self.end("the server closed a data channel"),
            Event::Closed => self.end("the server closed the connection"),
            Event::MediaData(data) => self.take_sound(data),
            // The rest is for statistics.
            _ => {}
        }
    }

    pub(super) fn path_changed(&mut self, state: IceConnectionState) {
        let was_ready = self.is_ready();
        match (state, self.path) {
            (_, Path::Closed) => {}
            (IceConnectionState::Connected | IceConnectionState::Completed, _) => self.path = Path::Found,
            (IceConnectionState::Disconnected, _) => {
                self.path = Path::Lost;
                self.outputs.push_back(PeerOutput::Unreachable);
            }
            (IceConnectionState::New | IceConnectionState::Checking, _) => {}
        }
        self.tell_ready(was_ready);
    }

    fn opened(&mut self, id: ChannelId) {
        let was_ready = self.is_ready();
        let Some(channel) = self.channel_of(id) else { return };
        match channel {
            Channel::Reliable => self.reliable.is_open = true,
            Channel::Lossy => self.lossy.is_open = true,
        }
        if let Some(mut open) = self.rtc.channel(id) {
            open.set_buffered_amount_low_threshold(BUFFERED_BYTES_LOW);
        }
        self.tell_ready(was_ready);
    }

    fn tell_ready(&mut self, was_ready: bool) {
        if !was_ready && self.is_ready() {
            self.outputs.push_back(PeerOutput::Ready);
        }
    }

    /// End the peer, if `str0m` reports an error.
    pub(super) fn check(&mut self, done: Result<(), RtcError>) {
        if let Err(error) = done {
            self.rtc.disconnect();
            self.end(&with_causes(&error));
        }
    }

    pub(super) fn end(&mut self, why: &str) {
        if self.path != Path::Closed {
            self.path = Path::Closed;
            self.outputs.push_back(PeerOutput::Closed { why: why.to_owned() });
        }
    }
}

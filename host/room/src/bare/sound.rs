//! One heard and one published track, with a clock of their own.

use std::time::Duration;

use wasm_worker_core::room::audio::options::PublishedOptions;
use wasm_worker_core::room::audio::{AudioEvent, HeardId, Publication, Subscription};

use super::Clock;
use crate::audio::codec::opus;
use crate::audio::heard::{Heard, Packet};
use crate::audio::playout::Playout;

/// A track that the agent hears.
pub struct BareHeard {
    heard: Heard,
    clock: Clock,
}

impl BareHeard {
    /// A track that is heard with these options.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub fn new(options: &Subscription) -> Result<Self, String> {
        let clock = Clock::new();
        Ok(Self { heard: Heard::new(HeardId::Asked(1), options, clock.now)?, clock })
    }

    /// A packet comes, which begins at this time in 1/48,000 s.
    pub fn receive(&mut self, payload: &[u8], time: u64, contiguous: bool) {
        self.heard.receive(Packet { payload, time, contiguous }, self.clock.now);
    }

    /// The publisher mutes or unmutes the track.
    pub fn mute(&mut self, muted: bool) {
        self.heard.set_muted(muted, self.clock.now);
    }

    /// The agent pauses or continues the delivery.
    pub fn hold(&mut self, held: bool) {
        self.heard.set_held(held, self.clock.now);
    }

    /// The track is gone.
    pub fn end(&mut self) {
        self.heard.end(self.clock.now);
    }

    /// Time passes, and everything happens that is due.
    ///
    /// # Panics
    /// When the track wants to be woken at one moment for ever.
    pub fn pass(&mut self, time: Duration) {
        let end = self.clock.now + time;
        while self.clock.goes_to(self.heard.wake_at(), end) {
            self.heard.advance(self.clock.now);
        }
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<AudioEvent> {
        self.heard.next_event()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.heard.counts().bytes_waiting
    }
}

/// A packet of the agent, and the time of it.
#[derive(Debug)]
pub struct BarePacket {
    /// Time since the track began.
    pub after: Duration,
    /// The time of its first sample, in 1/48,000 s.
    pub time: u64,
    /// Opus.
    pub payload: Vec<u8>,
}

/// A track that the agent publishes.
pub struct BarePlayout {
    playout: Playout,
    clock: Clock,
    began: tokio::time::Instant,
    packets: Vec<BarePacket>,
}

impl BarePlayout {
    /// A track that is published so.
    ///
    /// # Errors
    /// What is wrong with the publication.
    pub fn new(publication: &Publication) -> Result<Self, String> {
        let clock = Clock::new();
        let options = PublishedOptions::new(publication).map_err(|(_, why)| why)?;
        let playout = Playout::new(1, options, opus, clock.now)?;
        Ok(Self { playout, began: clock.now, clock, packets: Vec::new() })
    }

    /// The agent writes sound.
    ///
    /// # Errors
    /// The reason why the track is to end.
    pub fn write(&mut self, pcm: &[u8]) -> Result<(), String> {
        self.playout.write(pcm, self.clock.now).map_err(|error| error.to_string())?;
        self.collect();
        Ok(())
    }

    /// The agent sets a mark.
    ///
    /// # Errors
    /// The reason why the track is to end.
    pub fn mark(&mut self, mark: u32) -> Result<(), String> {
        self.playout.mark(mark, self.clock.now).map_err(|error| error.to_string())
    }

    /// The agent discards what has not been played.
    pub fn clear(&mut self) {
        self.playout.clear(self.clock.now);
        self.collect();
    }

    /// The agent pauses or continues the playout.
    pub fn hold(&mut self, held: bool) {
        self.playout.set_held(held, self.clock.now);
        self.collect();
    }

    /// The track is muted or unmuted.
    pub fn mute(&mut self, muted: bool) {
        self.playout.set_muted(muted);
    }

    /// The agent ends the track.
    pub fn close(&mut self) {
        self.playout.close();
    }

    /// Time passes, and everything happens that is due.
    ///
    /// # Panics
    /// When the track wants to be woken at one moment for ever.
    pub fn pass(&mut self, time: Duration) {
        let end = self.clock.now + time;
        while self.clock.goes_to(self.playout.wake_at(), end) {
            self.collect();
        }
    }

    /// Time passes in which nothing happens.
    pub fn stall(&mut self, time: Duration) {
        self.clock.now += time;
        self.collect();
    }

    /// Whether the track is over.
    pub fn is_over(&self) -> bool {
        self.playout.is_over()
    }

    /// Whether the agent is told that it may write again.
    pub fn take_writable(&mut self) -> bool {
        self.playout.take_writable()
    }

    /// The packets since the last call.
    pub fn take_packets(&mut self) -> Vec<BarePacket> {
        std::mem::take(&mut self.packets)
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<AudioEvent> {
        self.playout.next_event()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.playout.counts().bytes_waiting
    }

    fn collect(&mut self) {
        let after = self.clock.now - self.began;
        while let Some(outgoing) = self.playout.advance(self.clock.now) {
            self.packets.push(BarePacket { after, time: outgoing.time, payload: outgoing.payload });
        }
    }
}

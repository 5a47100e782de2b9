//! One track that the agent hears: packets in, events out.
//!
//! A packet is judged by its time (`arrival`), decoded or made up (`codec`), and given its time on the host's clock (`clock`). Where the
//! agent wants it, voice is detected in it (`voice`) and its level measured (`level`). Then it passes, if it is to be delivered (`gate`),
//! is cut into frames (`frames`), and waits to be taken (`pending`). Without packets for a while, what waits for more is completed, and
//! voice ends by the clock.

mod listener;

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::options::{HeardOptions, PENDING_BYTES_MAX};
use wasm_worker_core::room::audio::{AudioEvent, Delivery, HeardId, Subscription};

use super::arrival::{Arrival, Arrivals};
use super::block::{Block, Origin, after, samples_in, time_of};
use super::clock::{Clock, Follows};
use super::codec::Decoder;
use super::counts::HeardCounts;
use super::frames::{Frames, Ready};
use super::gate::Gate;
use super::level::Meter;
use super::pending::Pending;
use super::toc::{TICKS_IN_SECOND, ticks_of};
use super::voice::{Detector, Voice};
use listener::Listener;

/// Without packets for so long, nothing more is expected: longer than packets are late as a rule, shorter than a turn in talk.
const IDLE_AFTER: Duration = Duration::from_millis(200);

/// Once nothing more is expected, the time from the end of a frame that is not whole until silence completes it. Packets that are late
/// come within this time as a rule.
const COMPLETE_AFTER: Duration = Duration::from_millis(100);

/// A packet of a track. Packets come in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// Opus.
    pub(crate) payload: &'a [u8],
    /// The time of its first sample by the sender's clock, in 1/48,000 s: the time of RTP, extended so that it does not wrap.
    pub(crate) time: u64,
    /// Whether no packet is missing before it.
    pub(crate) contiguous: bool,
}

/// One track that the agent hears.
#[derive(Debug)]
pub(crate) struct Heard {
    id: HeardId,
    options: HeardOptions,
    decoder: Decoder,
    arrivals: Arrivals,
    clock: Clock,
    /// What listens to the sound, if anything depends on it.
    listener: Option<Listener>,
    /// What lets voice pass, if only that is wanted.
    gate: Option<Gate>,
    frames: Frames,
    pending: Pending,
    counts: HeardCounts,
    phase: Phase,
    /// When the last packet came, until what follows from a pause is done.
    awaits_since: Option<Instant>,
    /// After that: when the frame that is not whole is completed.
    complete_by: Option<Instant>,
    /// The time of the last change of voice that was told: the next is not earlier.
    voice_told: Instant,
}

/// What becomes of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Heard,
    /// The agent paused the delivery.
    Held,
    Ended,
}

impl Heard {
    /// A track of which nothing is heard yet. `Started` is the caller's.
    ///
    /// # Errors
    /// What is wrong with the options, in words for the author of the agent.
    pub(crate) fn new(id: HeardId, options: &Subscription, now: Instant) -> Result<Self, String> {
        let options = HeardOptions::new(options)?;
        let rate = options.rate;
        let listener = options.needs_detector().then(|| Listener {
            detector: Detector::new(rate),
            voice: Voice::new(options.thresholds),
            meter: options.level_every.map(Meter::new),
            is_muted: false,
        });
        let gate = || Gate::new(rate, options.before, options.after, options.thresholds.min_voice);
        Ok(Self {
            id,
            options,
            decoder: Decoder::new(rate).map_err(|error| format!("no decoder for `rate` {rate}: {error}"))?,
            arrivals: Arrivals::new(now),
            clock: Clock::new(now),
            listener,
            gate: (options.frames == Delivery::Voiced).then(gate),
            frames: Frames::new(id, rate, options.frame, now),
            pending: Pending::new(rate, PENDING_BYTES_MAX),
            counts: HeardCounts::default(),
            phase: Phase::Heard,
            awaits_since: None,
            complete_by: None,
            voice_told: now,
        })
    }

    /// A packet came. `received_at`: when; never before the one before it, or before another `now`.
    pub(crate) fn receive(&mut self, packet: Packet<'_>, received_at: Instant) {
        self.advance(received_at);
        self.counts.packets += 1;
        match (self.phase, ticks_of(packet.payload)) {
            (Phase::Ended, _) => {}
            (Phase::Heard | Phase::Held, None) => {
                self.counts.lost += 1;
                self.arrivals.skip();
            }
            (Phase::Heard | Phase::Held, Some(ticks)) if !self.arrivals.pay(ticks, received_at) => {
                self.counts.lost += 1;
                self.arrivals.skip();
            }
            (Phase::Held, Some(ticks)) => self.drop_sound(ticks),
            (Phase::Heard, Some(ticks)) => {
                let arrival = self.arrivals.take(packet.time, ticks, packet.contiguous, received_at);
                self.counts.lost += arrival.lost;
                (self.awaits_since, self.complete_by) = (Some(received_at), None);
                if self.options.needs_sound() {
                    self.conceal(&arrival, packet.payload, received_at);
                    self.decode(&arrival, packet, ticks, received_at);
                }
            }
        }
    }

    /// The publisher muted or unmuted the track. Voice ends with a mute, and none begins in it. Sound that comes is delivered: where the
    /// publisher is muted by a moderator, the server sends none.
    pub(crate) fn set_muted(&mut self, muted: bool, now: Instant) {
        if muted {
            self.fall_idle(now);
            self.end_voice(now);
        }
        if let Some(listener) = &mut self.listener {
            listener.is_muted = muted;
        }
    }

    /// The agent pauses or continues the delivery. What comes in between is counted as dropped. Voice that was told ends by the clock.
    pub(crate) fn set_held(&mut self, held: bool, now: Instant) {
        match (self.phase, held) {
            (Phase::Heard, true) => {
                self.pause(now);
                self.phase = Phase::Held;
                self.advance(now);
            }
            (Phase::Held, false) => {
                self.arrivals.restart();
                self.phase = Phase::Heard;
            }
            (Phase::Heard, false) | (Phase::Held, true) | (Phase::Ended, _) => {}
        }
    }

    /// The track is gone, or given up. Sound that waits for the rest of its frame is delivered with silence behind it; `Ended` is the
    /// last event.
    pub(crate) fn end(&mut self, now: Instant) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.pause(now);
            self.end_voice(now);
            self.gate = None;
            self.pending.push_end(AudioEvent::Ended { id: self.id });
        }
    }

    /// When something is due; `None` while only a packet can change anything.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let idle_at = self.awaits_since.map(|since| since + IDLE_AFTER);
        let silent_at = || self.listener.as_ref().and_then(|listener| listener.voice.ends_at());
        idle_at.or_else(|| self.complete_by.into_iter().chain(silent_at()).min())
    }

    /// Do what is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        if self.awaits_since.is_some_and(|since| now >= since + IDLE_AFTER) {
            self.fall_idle(now);
        }
        self.complete_if_due(now);
        if self.awaits_since.is_none() {
            let change = self.listener.as_mut().and_then(|listener| listener.voice.pass(now));
            self.tell_voice(change, now);
        }
    }

    /// The next event: `Frame`, `Level`, `VoiceStarted`, `VoiceEnded` or `Ended`. Leave the events here while the agent is late, so
    /// that the oldest sound is what is dropped.
    pub(crate) fn next_event(&mut self) -> Option<AudioEvent> {
        self.pending.pop()
    }

    /// Samples a second of what is delivered.
    pub(crate) const fn rate(&self) -> u32 {
        self.options.rate
    }

    /// The numbers of the track.
    pub(crate) fn counts(&self) -> HeardCounts {
        HeardCounts {
            jitter: self.arrivals.jitter(),
            dropped: self.pending.dropped_ever(),
            bytes_waiting: self.pending.bytes() + self.frames.bytes() + self.gate.as_ref().map_or(0, Gate::bytes),
            ..self.counts
        }
    }

    fn drop_sound(&mut self, ticks: u64) {
        if self.options.frames != Delivery::None {
            self.pending.drop_sound(Duration::from_nanos(ticks * 1_000_000_000 / TICKS_IN_SECOND));
        }
    }

    /// Make up what is missing before a packet.
    fn conceal(&mut self, arrival: &Arrival, next: &[u8], now: Instant) {
        if arrival.conceal == 0 || !self.arrivals.pay(arrival.conceal, now) {
            return;
        }
        let mut samples = Vec::new();
        // With time between it and the packet, what is made up belongs to the sound before.
        let next = if arrival.follows == Follows::AtOnce { next } else { &[] };
        if self.decoder.conceal(self.samples_in(arrival.conceal), next, &mut samples).is_err() {
            return;
        }
        let length = time_of(samples.len(), self.options.rate);
        self.counts.concealed += length;
        let at = self.clock.take(length);
        self.hear(Block { at, follows: true, samples, origin: Origin::MadeUp }, now);
    }

    fn decode(&mut self, arrival: &Arrival, packet: Packet<'_>, ticks: u64, now: Instant) {
        let mut samples = Vec::new();
        if self.decoder.decode(packet.payload, &mut samples).is_err() {
            self.counts.lost += 1;
            self.arrivals.fail(arrival, ticks);
            return;
        }
        samples.drain(..self.samples_in(arrival.skip).min(samples.len()));
        if samples.is_empty() {
            return;
        }
        let at = self.clock.place(arrival.follows, time_of(samples.len(), self.options.rate), now);
        let follows = arrival.follows == Follows::AtOnce;
        self.hear(Block { at, follows, samples, origin: Origin::Packet }, now);
    }

    /// A piece of sound is there.
    fn hear(&mut self, block: Block, now: Instant) {
        self.listen(&block, now);
        match (&mut self.gate, self.options.frames) {
            (Some(gate), _) => {
                let passed = gate.push(block, self.frames.wanted());
                passed.iter().for_each(|block| self.deliver(block));
            }
            (None, Delivery::All) => self.deliver(&block),
            (None, Delivery::Voiced | Delivery::None) => {}
        }
    }

    /// A piece of sound passes.
    fn deliver(&mut self, block: &Block) {
        let (left_out, ready) = self.frames.push(block);
        self.pending.drop_sound(left_out);
        self.push(ready);
    }

    /// No sound comes any more: complete what waits for more.
    fn pause(&mut self, now: Instant) {
        self.fall_idle(now);
        self.complete();
    }

    fn complete(&mut self) {
        self.complete_by = None;
        let ready = self.frames.complete();
        self.push(ready);
    }

    fn complete_if_due(&mut self, now: Instant) {
        if self.complete_by.is_some_and(|by| by <= now) {
            self.complete();
        }
    }

    /// No sound is expected for now. A frame that is not whole waits for its time, but not for longer than its length.
    fn fall_idle(&mut self, now: Instant) {
        self.awaits_since = None;
        let by = |end: Instant| after(end, COMPLETE_AFTER).min(after(now, self.options.frame));
        self.complete_by = self.frames.ends_at().map(by);
        self.complete_if_due(now);
        let level = self.listener.as_mut().and_then(|listener| listener.meter.as_mut()?.pause());
        self.tell_level(level, now, now);
    }

    fn push(&mut self, ready: impl IntoIterator<Item = Ready>) {
        ready.into_iter().for_each(|ready| self.pending.push(ready));
    }

    fn samples_in(&self, ticks: u64) -> usize {
        let time = Duration::from_nanos(ticks.saturating_mul(1_000_000_000) / TICKS_IN_SECOND);
        samples_in(time, self.options.rate)
    }
}

#[cfg(test)]
mod tests;

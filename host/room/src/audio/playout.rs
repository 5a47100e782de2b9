//! One track that the agent publishes: sound and commands in, packets at their time out.
//!
//! Sound is played when its packet goes out; it then counts as played as a whole. `Drained` and `Marked` are told at the end of its time,
//! and their times are exact.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::options::{PublishedOptions, WriteError};
use wasm_worker_core::room::audio::{AudioEvent, PlayoutState};
use wasm_worker_core::room::id::OperationId;

use super::block::{after, before, time_of};
use super::codec::{FRAMES_PER_SECOND, NewEncoder};
use super::counts::PlayoutCounts;
use super::level::of_frame;
use super::pacer::{Pacer, Tick};
use super::sender::Sender;
use super::waiting::Waiting;

/// A frame that goes out later than this is late: half of its length.
const LATE: Duration = Duration::from_millis(10);
/// Most events that wait. Beyond it, states that later ones replace are dropped.
const EVENTS_MAX: usize = 8_192;

/// A packet to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Opus: 20 ms.
    pub(crate) payload: Vec<u8>,
    /// The time of its first sample, in 1/48,000 s. It follows the clock: it steps over silence and stalls.
    pub(crate) time: u64,
    /// Whether it is the first packet after silence: the marker of RTP.
    pub(crate) starts_talk: bool,
    /// How loud it is, in dB to full scale. Servers tell by it who speaks.
    pub(crate) level: i8,
    /// Time since it was due, those that were left out after a stall included.
    pub(crate) late_by: Duration,
}

/// One track that the agent publishes.
#[derive(Debug)]
pub(crate) struct Playout {
    id: OperationId,
    rate: u32,
    waiting: Waiting,
    pacer: Pacer,
    sender: Sender,
    /// When the sound that went out last ends, until that is told.
    sounds_until: Option<Instant>,
    state: State,
    is_closed: bool,
    counts: PlayoutCounts,
    events: VecDeque<AudioEvent>,
}

/// What the agent knows of the playout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is played.
    Silent,
    Playing,
    /// The agent paused it.
    Held,
}

impl Playout {
    /// A track to which nothing is written. `Published` and `Subscribed` are the caller's.
    ///
    /// # Errors
    /// The machine has no encoder for it, in words for the author of the agent.
    pub(crate) fn new(
        id: OperationId,
        options: PublishedOptions,
        encoder: NewEncoder,
        now: Instant,
    ) -> Result<Self, String> {
        let PublishedOptions { rate, bits_per_second, .. } = options;
        let encoder = encoder(rate, bits_per_second);
        let encoder = encoder.map_err(|error| format!("no encoder for `rate` {rate}: {error}"))?;
        Ok(Self {
            id,
            rate,
            waiting: Waiting::new(rate),
            pacer: Pacer::new(now),
            sender: Sender::new(encoder),
            sounds_until: None,
            state: State::Silent,
            is_closed: false,
            counts: PlayoutCounts::default(),
            events: VecDeque::new(),
        })
    }

    /// Play these little-endian samples after all that was written before. After `close` nothing happens.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub(crate) fn write(&mut self, pcm: &[u8], now: Instant) -> Result<(), WriteError> {
        if self.is_closed {
            return Ok(());
        }
        self.waiting.write(pcm)?;
        self.run(now);
        Ok(())
    }

    /// `Marked` follows when everything written so far has been played or cleared.
    ///
    /// # Errors
    /// [`WriteError::TooManyMarks`].
    pub(crate) fn mark(&mut self, mark: u32, now: Instant) -> Result<(), WriteError> {
        self.waiting.mark(mark)?;
        if self.sounds_until.is_none() {
            self.tell_marks(now);
        }
        Ok(())
    }

    /// Discard what has not been played, at once: `Playout` with `Cleared`, then the marks of what was discarded.
    pub(crate) fn clear(&mut self, now: Instant) {
        let until = self.sounds_until.take().map_or(now, |until| until.min(now));
        self.tell_marks(until);
        let marks = self.waiting.clear();
        if self.state == State::Playing {
            self.state = State::Silent;
        }
        self.tell(PlayoutState::Cleared, now);
        let (id, played, at) = (self.id, self.waiting.played(), now.into_std());
        self.push(marks.into_iter().map(|mark| AudioEvent::Marked { id, mark, cleared: true, played, at }));
    }

    /// Pause the playout (`Playout` with `Held`), or continue it.
    pub(crate) fn set_held(&mut self, held: bool, now: Instant) {
        match (self.state, held) {
            (State::Silent | State::Playing, true) => {
                self.state = State::Held;
                self.tell(PlayoutState::Held, now);
            }
            (State::Held, false) => {
                self.state = State::Silent;
                self.run(now);
            }
            (State::Held, true) | (State::Silent | State::Playing, false) => {}
        }
    }

    /// Mute or unmute. The playout goes on; nothing is sent.
    pub(crate) const fn set_muted(&mut self, muted: bool) {
        self.sender.set_muted(muted);
    }

    /// Take no more sound; the track is over when everything written has been played.
    pub(crate) const fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether the track is closed and everything has been played and sent: `Done` is due once `next_event` gives none.
    pub(crate) fn is_over(&self) -> bool {
        self.is_closed && self.waiting.is_empty() && self.pacer.wake_at().is_none()
    }

    /// When something is due.
    pub(crate) const fn wake_at(&self) -> Option<Instant> {
        self.pacer.wake_at()
    }

    /// Do what is due. Call it until it gives nothing, also after each command.
    pub(crate) fn advance(&mut self, now: Instant) -> Option<Outgoing> {
        let tick = self.pacer.tick(now)?;
        let ended = self.sounds_until.take();
        self.tell_marks(ended.unwrap_or(tick.at));
        let sound = if self.state == State::Held { None } else { self.waiting.take(self.frame()) };
        let Some(sound) = sound else { return self.fall_silent(tick, ended) };
        if self.state == State::Silent {
            self.state = State::Playing;
            let played = self.waiting.played().saturating_sub(time_of(sound.written, self.rate));
            self.tell_at(PlayoutState::Playing, played, tick.at);
        }
        self.counts.late += if tick.left_out > 0 { tick.left_out } else { u64::from(tick.late_by > LATE) };
        self.sounds_until = Some(after(tick.at, time_of(sound.written, self.rate)));
        self.send(tick, &sound.samples)
    }

    /// What carries the packets is there, from now on: sound that waited for it is not late.
    pub(crate) fn begin(&mut self, now: Instant) {
        if self.pacer.wake_at().is_some() {
            self.pacer.stop();
            self.pacer.start(now);
        }
    }

    /// Whether the agent is to be told that it may write again (`RoomEvent::Writable`): more than 1 s waited, and now less than half
    /// of it does. True once each time.
    pub(crate) fn take_writable(&mut self) -> bool {
        self.waiting.take_writable() && !self.is_closed
    }

    /// The next event: `Playout` or `Marked`.
    pub(crate) fn next_event(&mut self) -> Option<AudioEvent> {
        self.events.pop_front()
    }

    /// The numbers of the track.
    pub(crate) fn counts(&self) -> PlayoutCounts {
        PlayoutCounts { bytes_waiting: self.waiting.bytes(), played: self.waiting.played(), ..self.counts }
    }

    fn frame(&self) -> usize {
        usize::try_from(self.rate / FRAMES_PER_SECOND).unwrap_or_default()
    }

    fn run(&mut self, now: Instant) {
        if !self.waiting.is_empty() && self.state != State::Held {
            self.pacer.start(now);
        }
    }

    /// There is no sound to play.
    fn fall_silent(&mut self, tick: Tick, ended: Option<Instant>) -> Option<Outgoing> {
        if self.state == State::Playing {
            self.state = State::Silent;
        }
        // A playout that is held is drained too, where nothing was left when it was held.
        if let Some(ended) = ended.filter(|_| self.waiting.is_empty()) {
            self.tell(PlayoutState::Drained, ended);
        }
        if self.sender.wants_silence() {
            return self.send(tick, &vec![0; self.frame()]);
        }
        self.sender.pause();
        self.pacer.stop();
        None
    }

    fn send(&mut self, tick: Tick, frame: &[i16]) -> Option<Outgoing> {
        let Ok(packet) = self.sender.send(frame) else {
            // A fault of the encoder: the frame does not go out.
            self.counts.late += 1;
            return None;
        };
        let (payload, starts_talk) = packet?;
        self.counts.packets += 1;
        let level = of_frame(frame);
        Some(Outgoing { payload, time: tick.time, starts_talk, level, late_by: tick.late_by })
    }

    /// Tell the marks that are behind what was played, which ended at this time.
    fn tell_marks(&mut self, ended: Instant) {
        while let Some(reached) = self.waiting.reached() {
            let at = before(ended, reached.ago).into_std();
            let marked =
                AudioEvent::Marked { id: self.id, mark: reached.mark, cleared: false, played: reached.played, at };
            self.push([marked]);
        }
    }

    fn tell(&mut self, state: PlayoutState, at: Instant) {
        self.tell_at(state, self.waiting.played(), at);
    }

    fn tell_at(&mut self, state: PlayoutState, played: Duration, at: Instant) {
        self.push([AudioEvent::Playout { id: self.id, state, played, at: at.into_std() }]);
    }

    fn push(&mut self, events: impl IntoIterator<Item = AudioEvent>) {
        self.events.extend(events);
        while self.events.len() > EVENTS_MAX {
            let is_state = |event: &AudioEvent| matches!(event, AudioEvent::Playout { .. });
            let oldest = self.events.iter().position(is_state).unwrap_or_default();
            self.events.remove(oldest);
        }
    }
}

#[cfg(test)]
mod tests;

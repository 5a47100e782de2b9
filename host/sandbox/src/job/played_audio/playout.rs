//! A track of the agent: what it writes is played in time. Pure; the time is an argument.
//!
//! Bounds, by the contract: a write while more than [`WAITING_MAX`] waits ends the track; where more than [`WRITABLE_AFTER`] waited, the
//! agent is told once less than half of that does; one mark more than [`MARKS_MAX`] ends it too.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::options::{MARKS_MAX, PublishedOptions, WAITING_MAX, WRITABLE_AFTER, WriteError};

use crate::guest::bindings::wasm_worker::agent::events::{AudioMark, Event, Playout as Position, PlayoutState};
use crate::sound::{PIECE, duration_of, samples_in, samples_of};

/// Sound that was played, and when it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::job) struct Played {
    pub(in crate::job) at: Instant,
    pub(in crate::job) rate: u32,
    pub(in crate::job) samples: Vec<i16>,
}

impl Played {
    /// The same in pieces of at most [`PIECE`].
    pub(super) fn pieces(self) -> impl Iterator<Item = Self> {
        let Self { at, rate, samples } = self;
        let piece = samples_in(PIECE, rate).max(1);
        let pieces: Vec<Vec<i16>> = samples.chunks(piece).map(<[i16]>::to_vec).collect();
        pieces.into_iter().zip(0..).map(move |(samples, number)| Self { at: at + PIECE * number, rate, samples })
    }
}

/// A track of the agent.
#[expect(clippy::struct_excessive_bools, reason = "each changes by itself")]
#[derive(Debug)]
pub(super) struct Playout {
    id: u32,
    pub(super) rate: u32,
    /// Samples that wait.
    queue: VecDeque<i16>,
    /// Samples that have been played.
    played: usize,
    /// The time at which the next sample is due; none while nothing is played.
    next: Option<Instant>,
    is_held: bool,
    is_muted: bool,
    is_closing: bool,
    /// Whether much waited, and the agent is to be told when little does.
    is_full: bool,
    /// Marks, each with the number of samples before it.
    marks: VecDeque<(usize, u32)>,
    /// Events, each with its time.
    events: VecDeque<(Instant, Event)>,
    out: Vec<Played>,
}

impl Playout {
    /// A track to which nothing is written.
    pub(super) fn new(id: u32, options: PublishedOptions) -> Self {
        Self {
            id,
            rate: options.rate,
            queue: VecDeque::new(),
            played: 0,
            next: None,
            is_held: false,
            is_muted: false,
            is_closing: false,
            is_full: false,
            marks: VecDeque::new(),
            events: VecDeque::new(),
            out: Vec::new(),
        }
    }

    /// Play this after all that was written before.
    pub(super) fn write(&mut self, pcm: &[u8], now: Instant) -> Result<(), WriteError> {
        self.advance(now);
        if self.is_closing {
            return Ok(());
        }
        if self.waiting() > WAITING_MAX {
            return Err(WriteError::TooLarge);
        }
        if !pcm.len().is_multiple_of(2) {
            return Err(WriteError::HalfSample);
        }
        self.queue.extend(samples_of(pcm));
        self.is_full |= self.waiting() > WRITABLE_AFTER;
        self.go_on(now);
        Ok(())
    }

    /// Begin to play, where there is something.
    fn go_on(&mut self, now: Instant) {
        if self.next.is_none() && !self.is_held && !self.queue.is_empty() {
            self.next = Some(now);
            self.tell(PlayoutState::Playing, now);
        }
    }

    /// Set a mark behind all that was written.
    pub(super) fn mark(&mut self, mark: u32, now: Instant) -> Result<(), WriteError> {
        self.advance(now);
        if self.marks.len() >= MARKS_MAX {
            return Err(WriteError::TooManyMarks);
        }
        self.marks.push_back((self.played + self.queue.len(), mark));
        self.reach_marks(now);
        Ok(())
    }

    /// Discard what has not been played.
    pub(super) fn clear(&mut self, now: Instant) {
        self.advance(now);
        self.queue.clear();
        self.next = None;
        self.tell(PlayoutState::Cleared, now);
        for (_, mark) in std::mem::take(&mut self.marks) {
            self.tell_mark(mark, true, now);
        }
        self.relax(now);
    }

    /// Pause or continue.
    pub(super) fn hold(&mut self, held: bool, now: Instant) {
        self.advance(now);
        if std::mem::replace(&mut self.is_held, held) == held {
            return;
        }
        if held {
            self.next = None;
            self.tell(PlayoutState::Held, now);
        } else {
            self.go_on(now);
        }
    }

    /// Mute or unmute: a muted track plays silence.
    pub(super) fn mute(&mut self, muted: bool, now: Instant) {
        self.advance(now);
        self.is_muted = muted;
    }

    /// Take no more.
    pub(super) fn close(&mut self, now: Instant) {
        self.advance(now);
        self.is_closing = true;
    }

    /// Whether the track is closed and everything has been played.
    pub(super) fn is_over(&self) -> bool {
        self.is_closing && self.queue.is_empty()
    }

    /// The next time at which something happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let next = self.next?;
        let after = |samples: usize| next + duration_of(samples, self.rate);
        let end = after(self.queue.len());
        let mark = self.marks.front().map(|(position, _)| after(position.saturating_sub(self.played)));
        let little =
            self.is_full.then(|| after(self.queue.len().saturating_sub(samples_in(WRITABLE_AFTER / 2, self.rate) - 1)));
        [Some(end), mark, little].into_iter().flatten().min()
    }

    /// The end of the next piece of what is played.
    pub(super) fn piece_at(&self) -> Option<Instant> {
        self.next.map(|next| next + PIECE)
    }

    /// Play what is due.
    pub(super) fn advance(&mut self, now: Instant) {
        while let Some((next, due)) = self.next.zip(self.wake_at()) {
            let until = due.min(now);
            let count = samples_in(until.saturating_duration_since(next), self.rate).min(self.queue.len());
            if count > 0 {
                self.play(next, count);
            }
            if due > now {
                return;
            }
            self.reach_marks(due);
            self.relax(due);
            if self.queue.is_empty() {
                self.next = None;
                self.tell(PlayoutState::Drained, due);
            }
        }
    }

    fn play(&mut self, at: Instant, count: usize) {
        let samples: Vec<i16> = self.queue.drain(..count).collect();
        let samples = if self.is_muted { vec![0; count] } else { samples };
        self.played += count;
        self.next = Some(at + duration_of(count, self.rate));
        self.out.push(Played { at, rate: self.rate, samples });
    }

    fn reach_marks(&mut self, at: Instant) {
        while let Some((_, mark)) = self.marks.pop_front_if(|(position, _)| *position <= self.played) {
            self.tell_mark(mark, false, at);
        }
    }

    /// Tell that little waits, where much did.
    fn relax(&mut self, at: Instant) {
        if self.is_full && self.waiting() < WRITABLE_AFTER / 2 {
            self.is_full = false;
            self.events.push_back((at, Event::Writable(self.id)));
        }
    }

    fn tell(&mut self, state: PlayoutState, at: Instant) {
        let position = Position { id: self.id, state, played_ms: self.played_ms(), at_ms: 0.0 };
        self.events.push_back((at, Event::AudioPlayout(position)));
    }

    fn tell_mark(&mut self, mark: u32, cleared: bool, at: Instant) {
        let mark = AudioMark { id: self.id, mark, cleared, played_ms: self.played_ms(), at_ms: 0.0 };
        self.events.push_back((at, Event::AudioMarked(mark)));
    }

    fn played_ms(&self) -> f64 {
        self.played().as_secs_f64() * 1e3
    }

    /// What has been played.
    pub(super) fn played(&self) -> Duration {
        duration_of(self.played, self.rate)
    }

    /// What waits.
    fn waiting(&self) -> Duration {
        duration_of(self.queue.len(), self.rate)
    }

    /// Bytes of sound that wait.
    pub(super) fn bytes_waiting(&self) -> usize {
        2 * self.queue.len()
    }

    /// The next event, and its time.
    pub(super) fn next_event(&mut self) -> Option<(Instant, Event)> {
        self.events.pop_front()
    }

    /// What was played since the last call.
    pub(super) fn take_played(&mut self) -> Vec<Played> {
        std::mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use wasm_worker_core::room::audio::Publication;

    use super::*;
    use crate::guest::events::name_of;
    use crate::sound::bytes_of;

    struct Test {
        began: Instant,
        track: Playout,
    }

    impl Test {
        fn new() -> Self {
            let publication = Publication { rate: 8_000, ..Publication::default() };
            let options = PublishedOptions::new(&publication).unwrap();
            Self { began: Instant::now(), track: Playout::new(3, options) }
        }

        fn at(&self, millis: u64) -> Instant {
            self.began + Duration::from_millis(millis)
        }

        fn write(&mut self, millis: usize, now: u64) -> Result<(), WriteError> {
            let now = self.at(now);
            self.track.write(&bytes_of(&vec![9; millis * 8]), now)
        }

        /// What happens up to this time: the state or the mark, its time, and what was played by then.
        fn until(&mut self, millis: u64) -> Vec<(String, u128, f64)> {
            let now = self.at(millis);
            self.track.advance(now);
            let events = std::iter::from_fn(|| self.track.next_event()).map(|(at, event)| {
                let (what, played) = match event {
                    Event::AudioPlayout(of) => (format!("{:?}", of.state), of.played_ms),
                    Event::AudioMarked(of) if of.cleared => (format!("cleared {}", of.mark), of.played_ms),
                    Event::AudioMarked(of) => (format!("mark {}", of.mark), of.played_ms),
                    other => (name_of(&other).to_owned(), 0.0),
                };
                (what, (at - self.began).as_millis(), played)
            });
            events.collect()
        }
    }

    fn told(what: &str, at: u128, played: f64) -> (String, u128, f64) {
        (what.to_owned(), at, played)
    }

    fn playing(at: u128, played: f64) -> (String, u128, f64) {
        told("PlayoutState::Playing", at, played)
    }

    fn drained(at: u128, played: f64) -> (String, u128, f64) {
        told("PlayoutState::Drained", at, played)
    }

    #[test]
    fn sound_is_played_in_time_and_marks_are_reached() {
        let mut test = Test::new();
        test.write(100, 0).unwrap();
        test.track.mark(1, test.at(0)).unwrap();
        test.write(50, 0).unwrap();
        test.track.mark(2, test.at(0)).unwrap();
        assert_eq!(test.track.wake_at(), Some(test.at(100)));
        assert_eq!(test.until(60), [playing(0, 0.0)]);
        assert_eq!(test.until(500), [told("mark 1", 100, 100.0), told("mark 2", 150, 150.0), drained(150, 150.0)]);
        test.track.mark(3, test.at(600)).unwrap();
        assert_eq!(test.until(600), [told("mark 3", 600, 150.0)], "everything has been played");
        let played: Vec<_> = test
            .track
            .take_played()
            .iter()
            .map(|part| ((part.at - test.began).as_millis(), part.samples.len()))
            .collect();
        assert_eq!(played, [(0, 480), (60, 320), (100, 400)]);
        test.write(20, 700).unwrap();
        assert_eq!(test.until(800), [playing(700, 150.0), drained(720, 170.0)]);
    }

    #[test]
    fn clear_discards_at_once_and_tells_the_position() {
        let mut test = Test::new();
        test.write(100, 0).unwrap();
        test.track.mark(1, test.at(0)).unwrap();
        test.track.clear(test.at(40));
        let cleared = told("PlayoutState::Cleared", 40, 40.0);
        assert_eq!(test.until(500), [playing(0, 0.0), cleared, told("cleared 1", 40, 40.0)]);
        test.write(10, 600).unwrap();
        assert_eq!(test.until(700), [playing(600, 40.0), drained(610, 50.0)], "what was cleared does not count");
    }

    #[test]
    fn a_held_track_goes_on_where_it_stood_and_a_muted_one_plays_silence() {
        let mut test = Test::new();
        test.write(100, 0).unwrap();
        test.track.hold(true, test.at(30));
        assert_eq!(test.track.wake_at(), None);
        test.track.mute(true, test.at(50));
        test.track.hold(false, test.at(80));
        let held = told("PlayoutState::Held", 30, 30.0);
        assert_eq!(test.until(500), [playing(0, 0.0), held, playing(80, 30.0), drained(150, 100.0)]);
        let played: Vec<_> =
            test.track.take_played().iter().map(|part| (part.samples[0], part.samples.len())).collect();
        assert_eq!(played, [(9, 240), (0, 560)]);
    }

    #[test]
    fn much_sound_is_told_of_and_too_much_is_refused() {
        let mut test = Test::new();
        test.write(1_200, 0).unwrap();
        let events = test.until(5_000);
        assert_eq!(events[1].0, "writable");
        assert!((700..=701).contains(&events[1].1), "{events:?}");
        test.write(1_000, 6_000).unwrap();
        assert!(test.until(9_000).iter().all(|(what, ..)| what != "writable"), "not much waited");
        test.write(60_000, 10_000).unwrap();
        test.write(10, 10_000).unwrap();
        assert_eq!(test.write(10, 10_000), Err(WriteError::TooLarge));
        let now = test.at(20_000);
        assert_eq!(test.track.write(&[1], now), Err(WriteError::HalfSample));
    }

    #[test]
    fn marks_that_wait_are_bounded() {
        let mut test = Test::new();
        test.write(100, 0).unwrap();
        let at = test.at(0);
        for mark in 0..u32::try_from(MARKS_MAX).unwrap() {
            test.track.mark(mark, at).unwrap();
        }
        assert_eq!(test.track.mark(0, at), Err(WriteError::TooManyMarks));
    }

    #[test]
    fn a_closed_track_is_over_when_everything_is_played() {
        let mut test = Test::new();
        test.write(20, 0).unwrap();
        test.track.close(test.at(0));
        assert!(!test.track.is_over());
        test.write(50, 10).unwrap();
        assert_eq!(test.until(100).last(), Some(&drained(20, 20.0)), "no more is taken");
        assert!(test.track.is_over());
    }
}

//! A track of the agent.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use super::{Publication, RATE};
use crate::types::{AudioMark, Failure, PlayoutState};
use crate::waits::{self, On};
use crate::{Event, Operation, calls, executor, pacing, select, time};

/// Sound that waits before a writer does.
const MUCH_MS: f64 = 1_000.0;
/// Sound up to which a writer waits then.
const LITTLE_MS: f64 = 500.0;
/// One call of the host has half a second of sound.
const PARTS_PER_SECOND: u32 = 2;

/// A track of the agent: see [`JobContext::publish_audio`](crate::JobContext::publish_audio). Dropping it ends the track at
/// once; [`close`](Self::close) lets what was written be played.
///
/// One task can write while another one clears the queue, with the source in an `Rc`.
#[derive(Debug)]
pub struct AudioSource {
    operation: RefCell<Operation>,
    state: RefCell<State>,
    rate: u32,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Default)]
struct State {
    /// Sound that was written, without what was cleared.
    written_ms: f64,
    /// Sound that was written since the last clear.
    since_clear_ms: f64,
    /// Clears that the host has not confirmed.
    clearing: u32,
    /// The position that the host has told, and its time.
    played_ms: f64,
    at_ms: f64,
    /// Whether sound goes out since then.
    is_playing: bool,
    /// Whether somebody hears the track, or did.
    is_subscribed: bool,
    /// The first byte of a sample whose second one is still to come.
    half: Option<u8>,
    /// Marks that were reached and that nobody has read.
    marks: VecDeque<AudioMark>,
    /// Events that were taken in.
    told: u64,
    /// How the track ended.
    end: Option<Result<(), Failure>>,
}

impl State {
    /// What has been played.
    fn position_ms(&self, now_ms: f64) -> f64 {
        let since = if self.is_playing { (now_ms - self.at_ms).max(0.0) } else { 0.0 };
        (self.played_ms + since).min(self.written_ms.max(self.played_ms))
    }

    /// What waits to be played.
    fn waiting_ms(&self, now_ms: f64) -> f64 {
        if self.clearing > 0 { self.since_clear_ms } else { self.written_ms - self.position_ms(now_ms) }
    }

    /// Whether nothing waits, as the host has told.
    fn is_drained(&self) -> bool {
        // The host counts samples: half of a millisecond is no sound.
        self.clearing == 0 && !self.is_playing && self.written_ms - self.played_ms < 0.5
    }

    fn note(&mut self, event: Event) {
        self.told += 1;
        match event {
            Event::AudioPlayout(playout) => {
                (self.played_ms, self.at_ms) = (playout.played_ms, playout.at_ms);
                self.is_playing = playout.state == PlayoutState::Playing;
                if playout.state == PlayoutState::Cleared {
                    self.clearing = self.clearing.saturating_sub(1);
                    if self.clearing == 0 {
                        self.written_ms = playout.played_ms + self.since_clear_ms;
                    }
                }
            }
            Event::AudioMarked(mark) => self.marks.push_back(mark),
            Event::AudioSubscribed(_) => self.is_subscribed = true,
            Event::Failed(failure) => self.end = Some(Err(failure)),
            Event::Done(_) => self.end = Some(Ok(())),
            _ => {}
        }
    }

    /// Whole samples: with the half that came before, and without one that is to be completed.
    fn whole<'a>(&mut self, pcm: &'a [u8]) -> Cow<'a, [u8]> {
        let mut pcm = match self.half.take() {
            Some(half) => Cow::Owned([&[half], pcm].concat()),
            None => Cow::Borrowed(pcm),
        };
        if pcm.len() % 2 == 1 {
            self.half = pcm.last().copied();
            let whole = pcm.len() - 1;
            match &mut pcm {
                Cow::Borrowed(bytes) => *bytes = bytes.get(..whole).unwrap_or_default(),
                Cow::Owned(bytes) => bytes.truncate(whole),
            }
        }
        pcm
    }
}

impl AudioSource {
    pub(super) fn publish(options: &Publication) -> Self {
        executor::count_call();
        let rate = if options.rate == 0 { RATE } else { options.rate };
        let id = calls::audio::publish(&Publication { rate, ..options.clone() });
        let mut operation = Operation::new(id, "audio::AudioSource");
        // The agent asks for each of its events, and holding them back would pause the sound.
        operation.never_hold();
        Self { operation: RefCell::new(operation), state: RefCell::default(), rate }
    }

    /// Samples a second of what is written.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Waits until somebody hears the track: what is said before is heard by nobody.
    ///
    /// ```no_run
    /// # async fn example(voice: wasm_worker_sdk::audio::AudioSource) -> wasm_worker_sdk::Result {
    /// voice.wait_for_subscription().await?;
    /// voice.capture_frame(&[0; 480]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The contract's failure.
    pub async fn wait_for_subscription(&self) -> Result<(), Failure> {
        waits::until(On::Id(self.id()), "audio::AudioSource::wait_for_subscription", || {
            self.ended().or_else(|| self.state.borrow().is_subscribed.then_some(Ok(())))
        })
        .await
    }

    /// Plays samples after all that was written before. Waits first while more than a second of sound waits to be played.
    ///
    /// ```no_run
    /// # async fn example(voice: wasm_worker_sdk::audio::AudioSource) -> wasm_worker_sdk::Result {
    /// voice.capture_frame(&[0; 480]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The contract's failure, such as `not-joined` once the room is lost.
    pub async fn capture_frame(&self, samples: &[i16]) -> Result<(), Failure> {
        for part in samples.chunks(self.part_samples()) {
            self.make_room().await?;
            let pcm: Vec<u8> = part.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            self.state.borrow_mut().half = None;
            self.put(&pcm);
        }
        Ok(())
    }

    /// The same with little-endian bytes, as a speech model sends them. Cuts mean nothing: a byte that is half a sample waits for the
    /// other half, which the next call has.
    ///
    /// ```no_run
    /// # async fn example(voice: wasm_worker_sdk::audio::AudioSource, mut speech: wasm_worker_sdk::http::Response) -> wasm_worker_sdk::Result {
    /// while let Some(part) = speech.chunk().await? {
    ///     voice.capture_bytes(&part).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`capture_frame`](Self::capture_frame).
    pub async fn capture_bytes(&self, pcm: &[u8]) -> Result<(), Failure> {
        for part in pcm.chunks(self.part_samples() * 2) {
            self.make_room().await?;
            let whole = self.state.borrow_mut().whole(part);
            if !whole.is_empty() {
                self.put(&whole);
            }
        }
        Ok(())
    }

    /// The samples of one call of the host.
    fn part_samples(&self) -> usize {
        usize::try_from(self.rate / PARTS_PER_SECOND).unwrap_or(usize::MAX).max(1)
    }

    fn put(&self, pcm: &[u8]) {
        let samples = pcm.len() / 2;
        executor::count_call();
        calls::audio::write(self.id(), pcm);
        #[expect(clippy::cast_precision_loss, reason = "half a second of samples")]
        let millis = samples as f64 * 1_000.0 / f64::from(self.rate);
        let mut state = self.state.borrow_mut();
        state.written_ms += millis;
        state.since_clear_ms += millis;
    }

    /// Discards what has not been played, at once: the user interrupts.
    ///
    /// ```no_run
    /// # fn example(voice: &wasm_worker_sdk::audio::AudioSource) {
    /// voice.clear_queue();
    /// # }
    /// ```
    pub fn clear_queue(&self) {
        self.look();
        let mut state = self.state.borrow_mut();
        if state.end.is_none() {
            executor::count_call();
            calls::audio::clear(self.id());
            state.clearing += 1;
            state.since_clear_ms = 0.0;
            state.half = None;
        }
    }

    /// Sets a mark behind everything written so far: [`next_mark`](Self::next_mark) tells when that has been played.
    pub fn mark(&self, mark: u32) {
        executor::count_call();
        calls::audio::mark(self.id(), mark);
    }

    /// The next mark that was played, or cleared with the sound before it. `None` once the track is over, after the marks that were
    /// reached before.
    ///
    /// ```no_run
    /// # async fn example(voice: wasm_worker_sdk::audio::AudioSource) -> wasm_worker_sdk::Result {
    /// voice.capture_frame(&[0; 4_800]).await?;
    /// voice.mark(1);
    /// let heard = voice.next_mark().await.is_some_and(|mark| !mark.cleared);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next_mark(&self) -> Option<AudioMark> {
        waits::until(On::Id(self.id()), "audio::AudioSource::next_mark", || {
            self.look();
            let mut state = self.state.borrow_mut();
            match state.marks.pop_front() {
                Some(mark) => Some(Some(mark)),
                None => state.end.is_some().then_some(None),
            }
        })
        .await
    }

    /// What has been played of everything that was written; what was cleared does not count. Between two messages of the
    /// host it follows the clock.
    pub fn position(&self) -> Duration {
        self.look();
        let position = self.state.borrow().position_ms(executor::this_step().now_ms);
        Duration::from_secs_f64(position.max(0.0) / 1_000.0)
    }

    /// Sound that waits to be played.
    pub fn queued(&self) -> Duration {
        self.look();
        let waiting = self.state.borrow().waiting_ms(executor::this_step().now_ms);
        Duration::from_secs_f64(waiting.max(0.0) / 1_000.0)
    }

    /// Waits until everything written has been played or cleared.
    ///
    /// ```no_run
    /// # async fn example(voice: wasm_worker_sdk::audio::AudioSource) -> wasm_worker_sdk::Result {
    /// voice.capture_frame(&[0; 4_800]).await?;
    /// voice.wait_for_playout().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The contract's failure.
    pub async fn wait_for_playout(&self) -> Result<(), Failure> {
        waits::until(On::Id(self.id()), "audio::AudioSource::wait_for_playout", || {
            self.ended().or_else(|| self.state.borrow().is_drained().then_some(Ok(())))
        })
        .await
    }

    /// Pauses the playout, or continues it.
    pub fn hold(&self, held: bool) {
        executor::count_call();
        calls::flow::hold(self.id(), held);
    }

    /// Mutes or unmutes the track. The playout goes on.
    pub fn mute(&self, muted: bool) {
        executor::count_call();
        calls::audio::mute(self.id(), muted);
    }

    /// Ends the track when everything written has been played, and waits for that.
    ///
    /// # Errors
    ///
    /// The contract's failure.
    pub async fn close(self) -> Result<(), Failure> {
        if let Some(ended) = self.ended() {
            return ended;
        }
        executor::count_call();
        calls::audio::close(self.id());
        self.operation.into_inner().done().await.map(drop)
    }

    fn id(&self) -> u32 {
        self.operation.borrow().id()
    }

    /// Takes in what the host has told.
    fn look(&self) {
        let mut operation = self.operation.borrow_mut();
        while let Some(event) = operation.try_next() {
            self.state.borrow_mut().note(event);
        }
    }

    /// How the track ended, if it did.
    fn ended(&self) -> Option<Result<(), Failure>> {
        self.look();
        self.state.borrow().end.clone()
    }

    /// Waits until little sound waits, where much does.
    async fn make_room(&self) -> Result<(), Failure> {
        let mut limit = MUCH_MS;
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            let (waiting, is_playing, told) = {
                let state = self.state.borrow();
                (state.waiting_ms(executor::this_step().now_ms), state.is_playing, state.told)
            };
            if waiting <= limit {
                pacing::spread_calls().await;
                return Ok(());
            }
            limit = LITTLE_MS;
            // The clock tells it while sound goes out, and an event when that begins.
            let changed = waits::until(On::Id(self.id()), "audio::AudioSource::capture_frame", || {
                // Another task may have taken the event in.
                self.look();
                (self.state.borrow().told != told).then_some(())
            });
            if is_playing {
                // Whole milliseconds, at least one: what is left of a sum of fractions would be waited for again and again.
                let left = Duration::from_secs_f64((waiting - LITTLE_MS).ceil() / 1_000.0);
                select(changed, time::sleep(left)).await;
            } else {
                changed.await;
            }
        }
    }
}

//! A published track in virtual time, with real sound.

use wasm_worker_core::room::audio::options::WAITING_MAX;
use wasm_worker_core::room::audio::{Publication, RATES};

use super::super::codec::{Decoder, opus};
use super::super::signals::{power_at, rms, sine};
use super::*;

const ID: OperationId = 9;
const FRAME: Duration = Duration::from_millis(20);
const MS: Duration = Duration::from_millis(1);

/// A track that is played in virtual time, and what comes out of it.
struct Voice {
    playout: Playout,
    rate: u32,
    start: Instant,
    now: Instant,
    sent: Vec<(Instant, Outgoing)>,
    events: Vec<AudioEvent>,
}

impl Voice {
    fn new(rate: u32) -> Self {
        let start = Instant::now();
        let publication = Publication { rate, ..Publication::default() };
        let playout = Playout::new(ID, PublishedOptions::new(&publication).unwrap(), opus, start).unwrap();
        Self { playout, rate, start, now: start, sent: Vec::new(), events: Vec::new() }
    }

    /// Write a tone of so many milliseconds.
    fn write(&mut self, ms: u32) {
        let samples = sine(self.rate, 440.0, 0.5, f64::from(ms) / 1_000.0);
        self.playout.write(&bytes(&samples), self.now).unwrap();
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(outgoing) = self.playout.advance(self.now) {
            self.sent.push((self.now, outgoing));
        }
        self.events.extend(std::iter::from_fn(|| self.playout.next_event()));
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.playout.wake_at().filter(|due| *due <= end) {
            assert!(due >= self.now);
            self.now = due;
            self.collect();
            assert!(self.playout.wake_at().is_none_or(|next| next > due), "something is due for ever");
        }
        self.now = end;
    }

    /// The events, in milliseconds: state or mark, what was played, when.
    fn story(&mut self) -> Vec<(String, u128, u128)> {
        let start = self.start.into_std();
        let story = |event: AudioEvent| match event {
            AudioEvent::Playout { id: ID, state, played, at } => {
                (format!("{state:?}"), played.as_millis(), (at - start).as_millis())
            }
            AudioEvent::Marked { id: ID, mark, cleared, played, at } => {
                let name = if cleared { format!("-{mark}") } else { mark.to_string() };
                (name, played.as_millis(), (at - start).as_millis())
            }
            event => panic!("{event:?}"),
        };
        self.events.drain(..).map(story).collect()
    }

    /// The sound of the packets at 48 kHz, without the pauses between them.
    fn heard(&self) -> Vec<i16> {
        let mut decoder = Decoder::new(48_000).unwrap();
        let mut samples = Vec::new();
        self.sent.iter().for_each(|(_, outgoing)| decoder.decode(&outgoing.payload, &mut samples).unwrap());
        samples
    }
}

fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn told(expected: &[(&str, u128, u128)]) -> Vec<(String, u128, u128)> {
    expected.iter().map(|(name, played, at)| ((*name).to_owned(), *played, *at)).collect()
}

#[test]
fn sound_goes_out_by_the_clock_and_then_nothing() {
    for rate in RATES {
        let mut voice = Voice::new(rate);
        voice.pass(MS * 7);
        voice.write(2_010);
        voice.pass(MS * 5_000);
        // 101 frames, and three of silence.
        assert_eq!(voice.sent.len(), 104);
        for ((at, outgoing), i) in voice.sent.iter().zip(0..) {
            assert_eq!(*at, voice.start + MS * 7 + FRAME * i);
            assert_eq!((outgoing.time, outgoing.late_by), (336 + 960 * u64::from(i), Duration::ZERO));
            assert_eq!((outgoing.starts_talk, outgoing.level == -127), (i == 0, i > 100));
        }
        let heard = voice.heard();
        let share = power_at(&heard[9_600..96_000], 48_000, 440.0);
        assert!(share > 0.95, "{share} of the power is at 440 Hz, at a rate of {rate}");
        assert!(rms(&heard[heard.len() - 960..]) < 0.002, "it does not end in silence");
        assert_eq!(voice.story(), told(&[("Playing", 0, 7), ("Drained", 2_010, 2_017)]));
        assert_eq!((voice.playout.wake_at(), voice.playout.counts().packets), (None, 104));
        assert_eq!(voice.playout.counts().late, 0);
    }
}

#[test]
fn sound_that_is_written_in_time_goes_out_without_a_break() {
    let mut voice = Voice::new(24_000);
    let samples = sine(24_000, 440.0, 0.5, 3.02);
    let (first, samples) = samples.split_at(24 * 20);
    voice.playout.write(&bytes(first), voice.now).unwrap();
    for piece in samples.chunks(24 * 60) {
        voice.playout.write(&bytes(piece), voice.now).unwrap();
        voice.collect();
        voice.pass(MS * 60);
    }
    voice.pass(MS * 500);
    assert_eq!(voice.sent.len(), 154);
    assert_eq!(voice.sent.iter().filter(|(_, outgoing)| outgoing.starts_talk).count(), 1);
    let share = power_at(&voice.heard()[9_600..144_000], 48_000, 440.0);
    assert!(share > 0.95, "{share} of the power is at 440 Hz");
}

#[test]
fn a_stall_is_followed_by_no_burst() {
    let mut voice = Voice::new(24_000);
    voice.write(2_000);
    voice.pass(MS * 400);
    assert_eq!(voice.sent.len(), 21);
    // The host is away for a second and 5 ms.
    voice.now += MS * 1_005;
    voice.collect();
    assert_eq!(voice.sent.len(), 22);
    let (_, last) = &voice.sent[21];
    assert_eq!((last.time, last.late_by, last.starts_talk), (960 * 70, MS * 985, false));
    assert_eq!(voice.playout.counts().late, 49);
    voice.pass(MS * 3_000);
    // All of the sound goes out, a second later than it would have.
    assert_eq!(voice.sent.len(), 103);
    assert!(
        voice.sent[22..].windows(2).all(|two| two[1].0 - two[0].0 == FRAME && two[1].1.time - two[0].1.time == 960)
    );
    assert_eq!(voice.story(), told(&[("Playing", 0, 0), ("Drained", 2_000, 2_980)]));
}

#[test]
fn clear_is_at_once_and_knows_what_was_heard() {
    let mut voice = Voice::new(24_000);
    voice.write(100);
    voice.playout.mark(1, voice.now).unwrap();
    voice.write(1_900);
    voice.playout.mark(2, voice.now).unwrap();
    voice.pass(MS * 505);
    assert_eq!(voice.story(), told(&[("Playing", 0, 0), ("1", 100, 100)]));
    voice.playout.clear(voice.now);
    voice.collect();
    assert_eq!(voice.story(), told(&[("Cleared", 520, 505), ("-2", 520, 505)]));
    assert_eq!((voice.sent.len(), voice.playout.counts().bytes_waiting), (26, 0));
    voice.pass(MS * 1_000);
    // Three frames of silence, and no sound in them but for the end that the encoder delays.
    assert_eq!(voice.sent.len(), 29);
    assert!(rms(&voice.heard()[960 * 27..]) < 0.01);
    assert_eq!(voice.story(), []);
    // What is written later is not affected.
    voice.write(40);
    voice.playout.mark(3, voice.now).unwrap();
    voice.pass(MS * 500);
    assert_eq!(voice.story(), told(&[("Playing", 520, 1_505), ("3", 560, 1_545), ("Drained", 560, 1_545)]));
    assert!(voice.sent[29].1.starts_talk);
    voice.playout.clear(voice.now);
    voice.playout.mark(4, voice.now).unwrap();
    voice.collect();
    assert_eq!(voice.story(), told(&[("Cleared", 560, 2_005), ("4", 560, 2_005)]));
}

#[test]
fn marks_are_exact_within_a_frame() {
    let mut voice = Voice::new(24_000);
    voice.write(33);
    voice.playout.mark(1, voice.now).unwrap();
    voice.playout.mark(2, voice.now).unwrap();
    voice.write(33);
    voice.playout.mark(3, voice.now).unwrap();
    voice.pass(MS * 500);
    assert_eq!(
        voice.story(),
        told(&[("Playing", 0, 0), ("1", 33, 33), ("2", 33, 33), ("3", 66, 66), ("Drained", 66, 66)])
    );
}

#[test]
fn a_playout_that_is_held_goes_on_where_it_was() {
    let mut voice = Voice::new(24_000);
    voice.write(200);
    voice.pass(MS * 50);
    voice.playout.set_held(true, voice.now);
    voice.pass(MS * 500);
    assert_eq!((voice.sent.len(), voice.playout.wake_at()), (6, None));
    voice.write(100);
    voice.pass(MS * 100);
    assert_eq!(voice.sent.len(), 6);
    voice.playout.set_held(false, voice.now);
    voice.pass(MS * 1_000);
    assert_eq!(voice.sent.len(), 6 + 12 + 3);
    assert_eq!(
        voice.story(),
        told(&[("Playing", 0, 0), ("Held", 60, 50), ("Playing", 60, 650), ("Drained", 300, 890)])
    );
    // Everything was sent when it was held.
    voice.write(20);
    voice.playout.set_held(true, voice.now);
    voice.pass(MS * 100);
    assert_eq!(voice.story(), told(&[("Playing", 300, 1_650), ("Held", 320, 1_650), ("Drained", 320, 1_670)]));
}

#[test]
fn a_track_that_is_muted_plays_on_and_sends_nothing() {
    let mut voice = Voice::new(24_000);
    voice.write(1_000);
    voice.pass(MS * 199);
    voice.playout.set_muted(true);
    voice.pass(MS * 200);
    voice.playout.set_muted(false);
    voice.pass(MS * 2_000);
    assert_eq!(voice.sent.len(), 10 + 30 + 3);
    assert!(voice.sent[10].1.starts_talk && voice.sent[10].1.time == 960 * 20);
    assert_eq!(voice.story(), told(&[("Playing", 0, 0), ("Drained", 1_000, 1_000)]));
}

#[test]
fn a_closed_track_is_over_when_all_is_played() {
    let mut voice = Voice::new(24_000);
    voice.write(100);
    voice.playout.close();
    voice.playout.write(&[0; 4_800], voice.now).unwrap();
    voice.pass(MS * 120);
    assert!(!voice.playout.is_over());
    voice.pass(MS * 100);
    assert!(voice.playout.is_over());
    assert_eq!((voice.sent.len(), voice.story()), (8, told(&[("Playing", 0, 0), ("Drained", 100, 100)])));
    let mut voice = Voice::new(24_000);
    voice.playout.close();
    assert!(voice.playout.is_over());
}

#[test]
fn written_silence_is_played_and_not_sent() {
    let mut voice = Voice::new(24_000);
    voice.write(100);
    voice.playout.write(&[0; 48_000], voice.now).unwrap();
    voice.write(100);
    voice.pass(MS * 3_000);
    assert_eq!(voice.sent.len(), 5 + 3 + 5 + 3);
    assert_eq!((voice.sent[8].1.starts_talk, voice.sent[8].1.time), (true, 960 * 55));
    assert_eq!(voice.story(), told(&[("Playing", 0, 0), ("Drained", 1_200, 1_200)]));
}

#[test]
fn more_than_a_minute_is_refused_and_writable_is_told_once() {
    let mut voice = Voice::new(8_000);
    let second = bytes(&sine(8_000, 440.0, 0.5, 1.0));
    for _ in 0..=WAITING_MAX.as_secs() {
        voice.playout.write(&second, voice.now).unwrap();
    }
    assert_eq!(voice.playout.write(&second, voice.now), Err(WriteError::TooLarge));
    assert_eq!(voice.playout.write(&[0], voice.now), Err(WriteError::HalfSample));
    let mut writable_at = Vec::new();
    for i in 0..62_u64 {
        voice.pass(MS * 1_000);
        writable_at.extend(voice.playout.take_writable().then_some(i));
    }
    assert_eq!(writable_at, [60]);
}

mod random;

use proptest::prelude::*;
use wasm_worker_core::room::audio::{AudioFrame, RATES};

use super::super::codec::Encoder;
use super::super::signals::{power_at, sine, speech};
use super::*;

const ID: HeardId = HeardId::Asked(7);
const FRAME: Duration = Duration::from_millis(20);
const MS: Duration = Duration::from_millis(1);

/// The packets of a sound at 48 kHz.
fn packets(samples: &[i16]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(48_000, 32_000).unwrap();
    samples.chunks_exact(960).map(|frame| encoder.encode(frame).unwrap()).collect()
}

/// The packets of a second of speech.
fn second_of_speech() -> &'static [Vec<u8>] {
    static PACKETS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    PACKETS.get_or_init(|| packets(&speech(48_000, 1.0)))
}

/// A track that is heard, and what came out of it.
struct Ears {
    heard: Heard,
    start: Instant,
    now: Instant,
    events: Vec<AudioEvent>,
}

impl Ears {
    fn new(options: &Subscription) -> Self {
        let start = Instant::now();
        Self { heard: Heard::new(ID, options, start).unwrap(), start, now: start, events: Vec::new() }
    }

    /// The packets of a sound come in time, from this one on, but for those that do not.
    fn hear(&mut self, packets: &[Vec<u8>], first: u64, comes: impl Fn(u64) -> bool) {
        let mut contiguous = true;
        for (payload, i) in packets.iter().zip(first..) {
            if comes(i) {
                self.pass_to(self.start + FRAME * (i as u32 + 1));
                self.heard.receive(Packet { payload, time: 960 * i, contiguous }, self.now);
                self.collect();
            }
            contiguous = comes(i);
        }
    }

    /// Time passes, and everything happens that is due.
    fn pass_to(&mut self, end: Instant) {
        while let Some(due) = self.heard.wake_at().filter(|due| *due <= end) {
            assert!(due >= self.now, "something was due in the past");
            self.now = due;
            self.heard.advance(due);
            assert!(self.heard.wake_at().is_none_or(|next| next > due), "something is due for ever");
            self.collect();
        }
        self.now = end;
        self.heard.advance(end);
        self.collect();
    }

    fn collect(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.heard.next_event()));
    }

    fn frames(&self) -> Vec<&AudioFrame> {
        self.events
            .iter()
            .filter_map(|event| if let AudioEvent::Frame(frame) = event { Some(frame) } else { None })
            .collect()
    }

    fn samples(&self) -> Vec<i16> {
        let pcm = self.frames().into_iter().flat_map(|frame| frame.pcm.as_chunks::<2>().0);
        pcm.map(|sample| i16::from_le_bytes(*sample)).collect()
    }

    /// When each frame of this many milliseconds was heard, in milliseconds. Frames without a gap may come in one event.
    fn times(&self, frame: i64) -> Vec<i64> {
        let bytes = frame as usize * self.heard.options.rate as usize / 500;
        let times = |event: &&AudioFrame| {
            let at = self.ms(event.at);
            (0..(event.pcm.len() / bytes) as i64).map(move |i| at + i * frame)
        };
        self.frames().iter().flat_map(times).collect()
    }

    /// Time since the beginning, in milliseconds.
    fn ms(&self, at: std::time::Instant) -> i64 {
        (at - self.start.into_std()).as_micros() as i64 / 1_000
    }

    /// The changes of voice, in milliseconds.
    fn voice(&self) -> Vec<(bool, i64)> {
        let change = |event: &AudioEvent| match event {
            AudioEvent::VoiceStarted { at, .. } => Some((true, self.ms(*at))),
            AudioEvent::VoiceEnded { at, .. } => Some((false, self.ms(*at))),
            _ => None,
        };
        self.events.iter().filter_map(change).collect()
    }
}

#[test]
fn a_tone_is_heard_whole_and_in_time() {
    for rate in RATES {
        let mut ears = Ears::new(&Subscription { rate, frame: 100 * MS, ..Subscription::default() });
        ears.hear(&packets(&sine(48_000, 440.0, 0.5, 2.0)), 0, |_| true);
        let frames = ears.frames();
        assert_eq!(frames.len(), 20);
        for (frame, i) in frames.iter().zip(0..) {
            assert_eq!(frame.pcm.len(), rate as usize / 10 * 2);
            assert_eq!((frame.id, frame.concealed, frame.dropped), (ID, Duration::ZERO, Duration::ZERO));
            assert_eq!(ears.ms(frame.at), 100 * i);
        }
        let share = power_at(&ears.samples()[rate as usize / 5..], rate, 440.0);
        assert!(share > 0.95, "{share} of the power is at 440 Hz, at a rate of {rate}");
        let counts = ears.heard.counts();
        assert_eq!((counts.packets, counts.lost, counts.jitter, counts.bytes_waiting), (100, 0, Duration::ZERO, 0));
    }
}

#[test]
fn lost_packets_are_made_up_and_told() {
    let mut ears = Ears::new(&Subscription { frame: 100 * MS, ..Subscription::default() });
    ears.hear(&packets(&sine(48_000, 440.0, 0.5, 4.0)), 0, |i| i % 10 != 4);
    let samples = ears.samples();
    assert_eq!(samples.len(), 64_000);
    let share = power_at(&samples[3_200..], 16_000, 440.0);
    assert!(share > 0.85, "with every tenth packet lost, {share} of the power is at 440 Hz");
    let counts = ears.heard.counts();
    assert_eq!((counts.packets, counts.lost, counts.concealed), (180, 20, FRAME * 20));
    assert!(ears.frames().iter().zip(0..).all(|(frame, i)| ears.ms(frame.at) == 100 * i));
    assert_eq!(ears.frames().iter().map(|frame| frame.concealed).sum::<Duration>(), FRAME * 20);
}

#[test]
fn a_long_loss_is_a_gap_and_silence_is_no_loss() {
    let tone = packets(&sine(48_000, 440.0, 0.5, 2.0));
    let mut ears = Ears::new(&Subscription { frame: 50 * MS, ..Subscription::default() });
    ears.hear(&tone, 0, |i| !(25..50).contains(&i));
    let counts = ears.heard.counts();
    assert_eq!((counts.lost, counts.concealed), (25, FRAME * 6));
    // 500 ms, 120 ms that were made up, 30 ms of silence that complete the frame, and the rest.
    let expected: Vec<i64> = (0..13).map(|i| i * 50).chain((20..40).map(|i| i * 50)).collect();
    assert_eq!(ears.times(50), expected);
    let concealed: Duration = ears.frames().iter().map(|frame| frame.concealed).sum();
    assert_eq!(concealed, FRAME * 6);

    // The sender pauses for the same time: no packet is missing.
    let mut ears = Ears::new(&Subscription { frame: 80 * MS, ..Subscription::default() });
    ears.hear(&tone[..25], 0, |_| true);
    ears.hear(&tone[50..], 50, |_| true);
    let counts = ears.heard.counts();
    assert_eq!((counts.lost, counts.concealed), (0, Duration::ZERO));
    let expected: Vec<i64> = (0..7).map(|i| i * 80).chain((0..12).map(|i| 1_000 + i * 80)).collect();
    assert_eq!(ears.times(80), expected);
}

#[test]
fn the_end_of_sound_does_not_wait_for_more() {
    let tone = packets(&sine(48_000, 440.0, 0.5, 0.2));
    let mut ears = Ears::new(&Subscription { frame: 300 * MS, ..Subscription::default() });
    ears.hear(&tone, 0, |_| true);
    assert!(ears.frames().is_empty());
    ears.pass_to(ears.start + 399 * MS);
    assert!(ears.frames().is_empty());
    ears.pass_to(ears.start + 400 * MS);
    assert_eq!(ears.frames().len(), 1);
    assert_eq!(ears.heard.wake_at(), None);
    assert_eq!(ears.samples().len(), 4_800);
    // What comes after all belongs where silence was delivered.
    ears.heard.receive(Packet { payload: &tone[0], time: 9_600, contiguous: true }, ears.now);
    ears.heard.end(ears.now);
    ears.collect();
    assert_eq!((ears.frames().len(), ears.events.last()), (1, Some(&AudioEvent::Ended { id: ID })));
    ears.heard.receive(Packet { payload: &tone[0], time: 96_000, contiguous: true }, ears.now);
    ears.heard.end(ears.now);
    ears.collect();
    assert_eq!(ears.events.len(), 2);
}

/// What is told of speech from 0.5 to 2.5 s in three seconds and a half.
fn speaking(options: &Subscription) -> Ears {
    let silence = vec![0; 24_000];
    let sound: Vec<i16> = [&silence, &speech(48_000, 2.0)[..], &silence, &silence].concat();
    let mut ears = Ears::new(options);
    ears.hear(&packets(&sound), 0, |_| true);
    ears
}

#[test]
fn voice_begins_and_ends_in_time_at_every_rate() {
    for rate in RATES {
        let options = Subscription { rate, detect_voice: true, frames: Delivery::None, ..Subscription::default() };
        let ears = speaking(&options);
        assert!(ears.frames().is_empty());
        let voice = ears.voice();
        assert!(
            matches!(voice[..], [(true, 440..=650), (false, 2_350..=2_650)]),
            "of speech from 500 to 2,500 ms at {rate} Hz is told {voice:?}"
        );
    }
}

#[test]
fn voice_ends_without_packets_by_mute_and_with_the_track() {
    let options = Subscription { detect_voice: true, frames: Delivery::None, ..Subscription::default() };
    let speaking = || {
        let mut ears = Ears::new(&options);
        ears.hear(&packets(&speech(48_000, 1.2)), 0, |_| true);
        assert!(matches!(ears.voice()[..], [(true, 0..=400)]), "{:?}", ears.voice());
        ears
    };
    let mut ears = speaking();
    ears.pass_to(ears.start + 1_600 * MS);
    assert_eq!(ears.voice().len(), 1);
    ears.pass_to(ears.start + 1_800 * MS);
    assert!(matches!(ears.voice()[..], [_, (false, 1_100..=1_200)]), "{:?}", ears.voice());
    assert_eq!(ears.heard.wake_at(), None);

    let mut ears = speaking();
    ears.heard.set_muted(true, ears.now);
    ears.collect();
    assert!(matches!(ears.voice()[..], [_, (false, 1_100..=1_200)]));
    ears.hear(&packets(&speech(48_000, 1.0)), 60, |_| true);
    assert_eq!(ears.voice().len(), 2);
    ears.heard.set_muted(false, ears.now);
    ears.hear(&packets(&speech(48_000, 1.0)), 110, |_| true);
    assert!(matches!(ears.voice()[..], [_, _, (true, 2_150..=2_500)]), "{:?}", ears.voice());
    ears.heard.end(ears.now);
    ears.collect();
    assert!(matches!(ears.voice()[..], [_, _, _, (false, 3_000..=3_200)]));
}

#[test]
fn only_voice_is_delivered_with_what_is_beside_it() {
    let options = Subscription {
        frames: Delivery::Voiced,
        frame: 40 * MS,
        before: 200 * MS,
        after: 300 * MS,
        detect_voice: true,
        ..Subscription::default()
    };
    let ears = speaking(&options);
    let (began, ended) = (ears.voice()[0].1, ears.voice()[1].1);
    let times = ears.times(40);
    let (first, last) = (times[0], times[times.len() - 1] + 40);
    assert!((-20..=20).contains(&(began - 200 - first)), "voice began at {began}, and the sound at {first}");
    assert!((0..=60).contains(&(last - ended - 300)), "voice ended at {ended}, and the sound at {last}");
    assert!(times.windows(2).all(|two| two[1] - two[0] == 40), "{times:?}");
    assert_eq!(ears.samples().len() as i64, (last - first) * 16);
    assert!(ears.heard.counts().bytes_waiting < 2 * 16 * 400);
}

#[test]
fn levels_are_told_until_it_is_silent() {
    let options = Subscription { level_every: 100 * MS, frames: Delivery::None, ..Subscription::default() };
    let mut ears = Ears::new(&options);
    ears.hear(&packets(&sine(48_000, 440.0, 0.1, 1.0)), 0, |_| true);
    ears.pass_to(ears.start + 3_000 * MS);
    let level =
        |event: &AudioEvent| if let AudioEvent::Level { level, .. } = event { *level } else { panic!("{event:?}") };
    let levels: Vec<f64> = ears.events.iter().map(level).collect();
    assert_eq!(levels.len(), 11);
    assert!(levels[2..10].iter().all(|level| (-24.0..-22.0).contains(level)), "{levels:?}");
    assert!(levels[10] < -126.0);
}

#[test]
fn an_agent_that_is_late_loses_the_oldest_sound() {
    let mut ears = Ears::new(&Subscription { rate: 48_000, ..Subscription::default() });
    let tone = packets(&sine(48_000, 440.0, 0.5, 1.0));
    for i in 0..500_u64 {
        ears.now = ears.start + FRAME * (i as u32 + 1);
        let payload = &tone[i as usize % tone.len()];
        ears.heard.receive(Packet { payload, time: 960 * i, contiguous: true }, ears.now);
        assert!(ears.heard.counts().bytes_waiting <= PENDING_BYTES_MAX + 9_600);
    }
    ears.collect();
    let frames = ears.frames();
    let dropped = frames[0].dropped;
    assert!(dropped > 7_000 * MS && dropped == ears.heard.counts().dropped);
    assert_eq!(ears.ms(frames[0].at), dropped.as_millis() as i64);
    assert!(frames[1..].iter().all(|frame| frame.dropped.is_zero()));
    assert_eq!(ears.samples().len(), 480_000 - 48 * dropped.as_millis() as usize);
    assert!(frames.len() < 20, "{} events for what waits", frames.len());
}

#[test]
fn what_comes_while_the_track_is_held_is_dropped() {
    let mut ears = Ears::new(&Subscription { frame: 100 * MS, detect_voice: true, ..Subscription::default() });
    let speech = packets(&speech(48_000, 2.0));
    ears.hear(&speech[..43], 0, |_| true);
    ears.heard.set_held(true, ears.now);
    ears.collect();
    assert_eq!(ears.samples().len(), 9 * 1_600);
    ears.hear(&speech[43..83], 43, |_| true);
    assert!(matches!(ears.voice()[..], [(true, _), (false, 700..=860)]), "{:?}", ears.voice());
    ears.heard.set_held(false, ears.now);
    ears.hear(&speech[83..], 83, |_| true);
    let frames = ears.frames();
    assert_eq!((ears.ms(frames[9].at), frames[9].dropped), (1_660, FRAME * 40));
    assert_eq!(ears.heard.counts().dropped, FRAME * 40);
    assert_eq!(ears.heard.counts().concealed, Duration::ZERO);
}

#[test]
fn sound_that_comes_too_fast_is_not_decoded() {
    let mut ears = Ears::new(&Subscription::default());
    let tone = packets(&sine(48_000, 440.0, 0.5, 0.02));
    for i in 0..5_000 {
        ears.heard.receive(Packet { payload: &tone[0], time: 960 * i, contiguous: true }, ears.now);
        ears.collect();
    }
    let heard = ears.samples().len() / 16;
    assert!((9_900..14_000).contains(&heard), "{heard} ms were taken at once");
    let taken = 5_000 - ears.heard.counts().lost as usize;
    assert!((0..=50).contains(&(20 * taken - heard)), "{taken} packets gave {heard} ms");
    // Time makes it good.
    ears.now += Duration::from_secs(20);
    for i in 5_000..5_100 {
        ears.heard.receive(Packet { payload: &tone[0], time: 960 * i, contiguous: true }, ears.now);
    }
    ears.collect();
    assert_eq!(ears.samples().len() / 16, (heard + 2_000).next_multiple_of(50));
}

/// What may happen to a track.
#[derive(Clone, Debug)]
enum Step {
    /// A packet of a tone after a step of time.
    Tone {
        step: i64,
        contiguous: bool,
    },
    /// A packet of any bytes.
    Any {
        payload: Vec<u8>,
        time: u64,
    },
    Pass(u64),
    Mute(bool),
    Hold(bool),
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop_oneof![4 => Just(0_i64), 1 => -60_000_i64..60_000, 1 => any::<i64>()], any::<bool>())
            .prop_map(|(step, contiguous)| Step::Tone { step, contiguous }),
        2 => (prop::collection::vec(any::<u8>(), 0..60), any::<u64>()).prop_map(|(payload, time)| Step::Any { payload, time }),
        4 => (0_u64..60).prop_map(Step::Pass),
        1 => (0_u64..100_000).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Mute),
        1 => any::<bool>().prop_map(Step::Hold),
        4 => (0_usize..20).prop_map(Step::Take),
    ]
}

/// Whether the events of a track make sense, one after the other.
struct Story {
    rate: u32,
    frame: usize,
    last_frame: Option<std::time::Instant>,
    last_voice: Option<(bool, std::time::Instant)>,
    is_over: bool,
}

impl Story {
    fn take(&mut self, event: &AudioEvent) {
        assert!(!self.is_over, "{event:?} after the last event");
        match event {
            AudioEvent::Frame(frame) => {
                assert!(!frame.pcm.is_empty() && frame.pcm.len() % (2 * self.frame) == 0, "{} bytes", frame.pcm.len());
                assert!(self.last_frame.is_none_or(|last| frame.at >= last), "`at` goes back");
                assert!(frame.concealed <= time_of(frame.pcm.len() / 2, self.rate));
                self.last_frame = Some(frame.at);
            }
            AudioEvent::Level { level, voice, .. } => {
                assert!((-127.0..=0.0).contains(level) && (0.0..=1.0).contains(voice));
            }
            AudioEvent::VoiceStarted { at, .. } | AudioEvent::VoiceEnded { at, .. } => {
                let starts = matches!(event, AudioEvent::VoiceStarted { .. });
                assert!(self.last_voice.is_none_or(|(started, last)| started != starts && *at >= last), "{event:?}");
                assert!(starts || self.last_voice.is_some());
                self.last_voice = Some((starts, *at));
            }
            AudioEvent::Ended { .. } => self.is_over = true,
            _ => panic!("{event:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn whatever_comes_makes_sense(
        steps in prop::collection::vec(step(), 1..150),
        rate in prop::sample::select(&RATES[..]),
        frame in 10_u32..200,
        frames in prop::sample::select(&[Delivery::All, Delivery::Voiced, Delivery::None][..]),
        level in prop_oneof![Just(0_u32), 20_u32..200],
    ) {
        let options = Subscription {
            rate, frames, frame: MS * frame, detect_voice: true, level_every: MS * level, before: MS * 300, ..Subscription::default()
        };
        let mut ears = Ears::new(&options);
        let sound = second_of_speech();
        let frame = samples_in(options.frame, rate);
        let mut story = Story { rate, frame, last_frame: None, last_voice: None, is_over: false };
        let mut time = 0_u64;
        for (step, payload) in steps.into_iter().zip(sound.iter().cycle()) {
            match step {
                Step::Tone { step, contiguous } => {
                    time = time.wrapping_add_signed(step);
                    ears.heard.receive(Packet { payload, time, contiguous }, ears.now);
                    time = time.wrapping_add(960);
                }
                Step::Any { payload, time } => {
                    ears.heard.receive(Packet { payload: &payload, time, contiguous: true }, ears.now);
                }
                Step::Pass(ms) => ears.pass_to(ears.now + Duration::from_millis(ms)),
                Step::Mute(muted) => ears.heard.set_muted(muted, ears.now),
                Step::Hold(held) => ears.heard.set_held(held, ears.now),
                Step::Take(count) => {
                    let taken: Vec<_> = std::iter::from_fn(|| ears.heard.next_event()).take(count).collect();
                    taken.iter().for_each(|event| story.take(event));
                }
            }
            ears.events.drain(..).for_each(|event| story.take(&event));
            prop_assert!(ears.heard.counts().bytes_waiting <= PENDING_BYTES_MAX + (96 << 10) * 3);
        }
        ears.heard.end(ears.now);
        ears.collect();
        ears.events.drain(..).for_each(|event| story.take(&event));
        prop_assert!(story.is_over && story.last_voice.is_none_or(|(speaks, _)| !speaks));
        prop_assert_eq!((ears.heard.counts().bytes_waiting, ears.heard.wake_at()), (0, None));
    }
}

/// Two minutes of a sender whose clock is wrong, in virtual time: `at` follows the host's clock. The test of the clock has ten.
#[test]
fn clocks_that_drift_do_not_move_the_sound_away() {
    let tone = packets(&sine(48_000, 440.0, 0.5, 0.2));
    for ppm in [-200.0, 200.0] {
        let mut ears = Ears::new(&Subscription { rate: 8_000, frame: 1_000 * MS, ..Subscription::default() });
        for i in 0..6_000_u64 {
            ears.now = ears.start + FRAME.mul_f64((i + 1) as f64 * (1.0 + ppm / 1e6));
            let payload = &tone[i as usize % tone.len()];
            ears.heard.receive(Packet { payload, time: 960 * i, contiguous: true }, ears.now);
            ears.collect();
        }
        let frames = ears.frames();
        assert_eq!(frames.len(), 120);
        for (frame, i) in frames.iter().zip(0..) {
            let truth = Duration::from_secs(i).mul_f64(1.0 + ppm / 1e6).as_secs_f64();
            let error = frame.at.duration_since(ears.start.into_std()).as_secs_f64() - truth;
            assert!(error.abs() < 0.005, "after {i} s at {ppm} ppm `at` is off by {error} s");
        }
    }
}

/// The time of each part for 20 ms of sound. Run it by
/// `cargo test -p wasm-worker-room --release costs_of_sound -- --ignored --nocapture`.
#[test]
#[ignore = "measures this machine"]
fn costs_of_sound() {
    let cpu = || {
        let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(line.split(' ').next().unwrap().parse().unwrap())
    };
    let seconds = 10;
    for rate in RATES {
        let sound = speech(rate, f64::from(seconds));
        let mut encoder = Encoder::new(rate, 32_000).unwrap();
        let began = cpu();
        let own: Vec<Vec<u8>> =
            sound.chunks_exact(rate as usize / 50).map(|frame| encoder.encode(frame).unwrap()).collect();
        let encode = (cpu() - began) / (50 * seconds);
        let foreign = packets(&speech(48_000, f64::from(seconds)));
        let mut line = format!("{rate} Hz: encode {encode:?}");
        for (name, packets, detect_voice) in
            [("hear own", &own, false), ("hear 48 kHz", &foreign, false), ("hear 48 kHz with voice", &foreign, true)]
        {
            let mut ears = Ears::new(&Subscription { rate, detect_voice, ..Subscription::default() });
            let began = cpu();
            ears.hear(packets, 0, |_| true);
            line += &format!(", {name} {:?}", (cpu() - began) / (50 * seconds));
        }
        println!("{line}");
    }
}

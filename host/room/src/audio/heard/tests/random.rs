//! Anything, in any order.

use proptest::prelude::*;

use super::*;

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
    last_frame: Option<Instant>,
    last_voice: Option<(bool, Instant)>,
    is_over: bool,
}

impl Story {
    fn take(&mut self, event: &AudioEvent) {
        assert!(!self.is_over, "{event:?} after the last event");
        match event {
            AudioEvent::Frame(frame) => {
                assert!(
                    !frame.pcm.is_empty() && frame.pcm.len().is_multiple_of(2 * self.frame),
                    "{} bytes",
                    frame.pcm.len()
                );
                let at = Instant::from_std(frame.at);
                assert!(self.last_frame.is_none_or(|last| at >= last), "`at` goes back");
                assert!(frame.concealed <= time_of(frame.pcm.len() / 2, self.rate));
                self.last_frame = Some(at);
            }
            AudioEvent::Level { level, voice, .. } => {
                assert!((-127.0..=0.0).contains(level) && (0.0..=1.0).contains(voice));
            }
            AudioEvent::VoiceStarted { at, .. } | AudioEvent::VoiceEnded { at, .. } => {
                let starts = matches!(event, AudioEvent::VoiceStarted { .. });
                assert!(
                    self.last_voice.is_none_or(|(started, last)| started != starts && Instant::from_std(*at) >= last),
                    "{event:?}"
                );
                assert!(starts || self.last_voice.is_some());
                self.last_voice = Some((starts, Instant::from_std(*at)));
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

//! Anything, in any order.

use proptest::prelude::*;

use super::*;

/// What may happen to a track.
#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Mark,
    Clear,
    Hold(bool),
    Mute(bool),
    /// Time in which everything happens that is due.
    Pass(u64),
    /// Time in which nothing happens.
    Stall(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_usize..3_000).prop_map(Step::Write),
        3 => Just(Step::Mark),
        1 => Just(Step::Clear),
        1 => any::<bool>().prop_map(Step::Hold),
        1 => any::<bool>().prop_map(Step::Mute),
        6 => (0_u64..150).prop_map(Step::Pass),
        1 => (0_u64..3_000).prop_map(Step::Stall),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn whatever_is_asked_for_makes_sense(steps in prop::collection::vec(step(), 1..80)) {
        let mut voice = Voice::new(8_000);
        let (mut written, mut marks) = (0, 0);
        for step in steps {
            match step {
                Step::Write(samples) => {
                    voice.playout.write(&bytes(&vec![500; samples]), voice.now).unwrap();
                    written += samples;
                }
                Step::Mark => {
                    voice.playout.mark(marks, voice.now).unwrap();
                    marks += 1;
                }
                Step::Clear => voice.playout.clear(voice.now),
                Step::Hold(held) => voice.playout.set_held(held, voice.now),
                Step::Mute(muted) => voice.playout.set_muted(muted),
                Step::Pass(ms) => voice.pass(Duration::from_millis(ms)),
                Step::Stall(ms) => voice.now += Duration::from_millis(ms),
            }
            voice.collect();
            prop_assert!(voice.playout.waiting.played() <= time_of(written, 8_000));
        }
        voice.playout.set_held(false, voice.now);
        voice.playout.close();
        voice.pass(Duration::from_secs(120));
        prop_assert!(voice.playout.is_over() && voice.playout.counts().bytes_waiting == 0);
        // Packets are never closer than a frame, and their time is that of the clock.
        for two in voice.sent.windows(2) {
            prop_assert!(two[1].1.time >= two[0].1.time + 960);
        }
        for (at, outgoing) in &voice.sent {
            let by_clock = (*at - voice.start).as_nanos() as i128 * 48_000 / 1_000_000_000 - i128::from(outgoing.time);
            prop_assert!((0..960).contains(&by_clock), "a packet is {by_clock} ticks late");
        }
        let mut reached = 0;
        let (mut last_played, mut last_at) = (Duration::ZERO, voice.start.into_std());
        for event in &voice.events {
            match event {
                AudioEvent::Marked { mark, played, at, .. } => {
                    prop_assert_eq!(*mark, reached);
                    prop_assert!(*played >= last_played && *at >= last_at, "{:?}", event);
                    (last_played, last_at) = (*played, *at);
                    reached += 1;
                }
                AudioEvent::Playout { played, .. } => prop_assert!(*played <= time_of(written, 8_000)),
                _ => prop_assert!(false, "{:?}", event),
            }
        }
        prop_assert_eq!(reached, marks);
    }
}

//! Sound, loss, gaps, and an agent that is late.

use super::*;

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

#[test]
fn sound_that_goes_on_within_a_long_frame_is_heard_whole() {
    let speech = packets(&speech(48_000, 1.2));
    for (frames, pause) in [(Delivery::All, 11), (Delivery::All, 20), (Delivery::Voiced, 11), (Delivery::Voiced, 24)] {
        let timeline = |frames, frame| {
            let mut ears = Ears::new(&Subscription { frames, frame, ..Subscription::default() });
            ears.hear(&speech[..25], 0, |_| true);
            ears.hear(&speech[25..], 25 + pause, |_| true);
            ears.pass_to(ears.start + 5_000 * MS);
            assert_eq!((ears.heard.counts().dropped, ears.heard.wake_at()), (Duration::ZERO, None));
            ears.timeline()
        };
        let (short, long) = (timeline(Delivery::All, 20 * MS), timeline(frames, 1_000 * MS));
        assert_eq!(short.len(), 60 * 320 + pause as usize * 320);
        let differs = short.iter().zip(&long).position(|(one, other)| one != other);
        assert!(long.len() >= short.len() && differs.is_none(), "{frames:?}, {pause}: sample {differs:?} differs");
    }
}

#[test]
fn sound_that_comes_too_late_is_counted_and_told() {
    let tone = packets(&sine(48_000, 440.0, 0.5, 0.4));
    let mut ears = Ears::new(&Subscription { frame: 300 * MS, ..Subscription::default() });
    ears.hear(&tone[..10], 0, |_| true);
    ears.pass_to(ears.start + 400 * MS);
    assert_eq!(ears.frames().len(), 1);
    for (payload, i) in tone[10..].iter().zip(10..) {
        ears.heard.receive(Packet { payload, time: 960 * i, contiguous: true }, ears.now);
    }
    assert_eq!(ears.heard.counts().dropped, 100 * MS);
    ears.pass_to(ears.start + 5_000 * MS);
    let told: Vec<_> = ears.frames().iter().map(|frame| (ears.ms(frame.at), frame.dropped)).collect();
    assert_eq!(told, [(0, Duration::ZERO), (300, 100 * MS)]);
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
fn what_is_dropped_while_the_track_is_held_lasts_no_longer_than_time() {
    let mut ears = Ears::new(&Subscription::default());
    let tone = packets(&sine(48_000, 440.0, 0.5, 0.02));
    ears.heard.set_held(true, ears.now);
    for i in 0..5_000 {
        ears.heard.receive(Packet { payload: &tone[0], time: 960 * i, contiguous: true }, ears.now);
    }
    let counts = ears.heard.counts();
    assert!((10_000 * MS..14_000 * MS).contains(&counts.dropped), "{:?} were dropped at once", counts.dropped);
    assert_eq!(counts.dropped + FRAME * counts.lost as u32, FRAME * 5_000);
}

/// Somebody pauses, or begins, and the first packet is one that no decoder takes.
#[test]
fn times_are_right_behind_a_packet_that_is_no_sound() {
    let tone = packets(&sine(48_000, 440.0, 0.5, 0.4));
    // Two frames of 10 ms and of one size, in one byte.
    let bad = vec![30 << 3 | 1, 0xff];
    for before in [0, 10] {
        let mut ears = Ears::new(&Subscription { frame: 20 * MS, ..Subscription::default() });
        ears.hear(&tone[..before], 0, |_| true);
        let begins = before as u64 + 100;
        ears.hear(std::slice::from_ref(&bad), begins, |_| true);
        assert_eq!(ears.heard.counts().lost, 1);
        ears.hear(&tone[10..], begins + 1, |_| true);
        ears.pass_to(ears.start + 5_000 * MS);
        let times = ears.times(20);
        let expected: Vec<i64> = (begins + 1..begins + 11).map(|i| i as i64 * 20).collect();
        assert_eq!(times[times.len() - 10..], expected, "behind {before} packets: {times:?}");
    }
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
    // With the end of the frame that was not whole.
    assert!((heard + 2_000..=heard + 2_050).contains(&(ears.samples().len() / 16)));
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

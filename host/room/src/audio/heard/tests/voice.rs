//! Voice and levels.

use super::*;

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

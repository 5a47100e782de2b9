//! What sound costs on this machine.

use super::*;

/// The time of each part for 20 ms of sound. Run it by
/// `cargo test -p wasm-worker-room --release costs_of_sound -- --ignored --nocapture`.
#[test]
#[ignore = "measures this machine"]
fn costs_of_sound() {
    let cpu = || {
        let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(line.split(' ').next().unwrap().parse().unwrap())
    };
    let seconds = 60;
    for rate in RATES {
        let sound = speech(rate, f64::from(seconds));
        let mut encoder = opus(rate, 32_000).unwrap();
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

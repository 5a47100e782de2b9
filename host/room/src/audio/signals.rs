//! Sound for tests, and what is in a sound.

use std::f64::consts::TAU;

/// A tone, at this share of full scale.
pub(super) fn sine(rate: u32, hz: f64, amplitude: f64, seconds: f64) -> Vec<i16> {
    let count = (f64::from(rate) * seconds).round() as usize;
    (0..count).map(|i| (32_767.0 * amplitude * (TAU * hz * i as f64 / f64::from(rate)).sin()).round() as i16).collect()
}

/// Something like speech for two in three seconds: a voice with formants that glide, in syllables, from and to silence.
pub(super) fn speech(rate: u32, seconds: f64) -> Vec<i16> {
    let mut phase = 0.0;
    let mut noise = 1_u32;
    let count = (f64::from(rate) * seconds).round() as usize;
    let sample = |i: usize| {
        let t = i as f64 / f64::from(rate);
        let pitch = 140.0 + 40.0 * (t * 3.0).sin();
        phase += pitch / f64::from(rate);
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (first, second) = (600.0 + 300.0 * (t * 9.0).sin(), 1_800.0 + 500.0 * (t * 5.0).sin());
        let voice: f64 = (1..25)
            .map(|n| (f64::from(n) * pitch, TAU * phase * f64::from(n)))
            .filter(|(hz, _)| *hz < f64::from(rate) / 2.2)
            .map(|(hz, angle)| {
                let near = |formant: f64, width: f64| 1.0 / (1.0 + ((hz - formant) / width).powi(2));
                (near(first, 200.0) + 0.5 * near(second, 300.0)) * angle.sin()
            })
            .sum();
        let syllable = (t * 4.0 * TAU / 2.0).sin().abs().sqrt();
        let speaks = if t % 3.0 < 2.0 { syllable } else { 0.0 };
        let hiss = f64::from(noise >> 16) / 32_768.0 - 1.0;
        ((speaks * (voice * 0.15 + hiss * 0.01)) * 20_000.0).clamp(-32_000.0, 32_000.0) as i16
    };
    (0..count).map(sample).collect()
}

/// The root of the mean square, as a share of full scale.
pub(super) fn rms(samples: &[i16]) -> f64 {
    let sum: f64 = samples.iter().map(|sample| (f64::from(*sample) / 32_768.0).powi(2)).sum();
    (sum / samples.len().max(1) as f64).sqrt()
}

/// The share of the power that is within 20 Hz of a frequency, each tenth of a second judged by itself. Sound must not be empty.
pub(super) fn power_at(samples: &[i16], rate: u32, hz: f64) -> f64 {
    let (mut inside, mut all) = (0.0, 0.0);
    for window in samples.chunks_exact(rate as usize / 10) {
        // A window of Hann: each bin has the width of two.
        let hann = |i: usize| 0.5 - 0.5 * (TAU * i as f64 / window.len() as f64).cos();
        let windowed: Vec<f64> = window.iter().enumerate().map(|(i, sample)| f64::from(*sample) * hann(i)).collect();
        all += windowed.iter().map(|value| value * value).sum::<f64>();
        for bin in -2..=2 {
            let angle = TAU * (hz + 10.0 * f64::from(bin)) / f64::from(rate);
            let part = |of: fn(f64) -> f64| -> f64 {
                windowed.iter().enumerate().map(|(i, value)| value * of(angle * i as f64)).sum()
            };
            inside += 2.0 * (part(f64::cos).powi(2) + part(f64::sin).powi(2)) / window.len() as f64;
        }
    }
    inside / all
}

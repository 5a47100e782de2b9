//! Fuel that guests burn, relative to the fuel that the cores could burn. Pure.
//!
//! The fuel of a second of CPU time differs between guests by a factor of ten and more. The capacity is therefore calibrated with
//! the recent rate of the guests that run. The share is then the share of the cores that guests use, whatever else the machine
//! does.

use std::collections::VecDeque;

use tokio::time::Instant;
use wasm_worker_sandbox::engine::spending::Spent;

use super::window::SAMPLES;

/// The weight of the calibration at the next sample: half of it is from the last seven seconds.
const FADE: f64 = 0.95;

/// The fuel that guests burn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FuelUse {
    /// Fuel units a second.
    pub(crate) rate: f64,
    /// Share of the capacity, 0 to 1.
    pub(crate) share: f64,
    /// Cores that guests use.
    pub(crate) cores: f64,
}

/// Measures the fuel that guests burn, averaged over 2.5 s.
#[derive(Debug, Default)]
pub(crate) struct FuelMonitor {
    readings: VecDeque<(Instant, Spent)>,
    /// Fuel, and the CPU time in seconds that it took; old samples fade.
    calibration: (f64, f64),
}

impl FuelMonitor {
    /// Add a reading of the counters, and return the averages.
    #[expect(clippy::cast_precision_loss, reason = "shares of a second")]
    pub(crate) fn sample(&mut self, now: Instant, spent: Spent, cores: f64) -> FuelUse {
        let (fuel, cpu) = &mut self.calibration;
        if let Some((_, last)) = self.readings.back() {
            *fuel = *fuel * FADE + spent.fuel.saturating_sub(last.fuel) as f64;
            *cpu = *cpu * FADE + spent.cpu.saturating_sub(last.cpu).as_secs_f64();
        }
        self.readings.push_back((now, spent));
        if self.readings.len() > SAMPLES as usize + 1 {
            self.readings.pop_front();
        }
        let (rate, used) = self.readings.front().map_or((0.0, 0.0), |(then, first)| {
            let seconds = now.saturating_duration_since(*then).as_secs_f64();
            let (fuel, cpu) = (spent.fuel.saturating_sub(first.fuel) as f64, spent.cpu.saturating_sub(first.cpu));
            if seconds > 0.0 { (fuel / seconds, cpu.as_secs_f64() / seconds) } else { (0.0, 0.0) }
        });
        let capacity = if *cpu > 0.0 { cores * *fuel / *cpu } else { 0.0 };
        let share = if capacity > 0.0 { (rate / capacity).clamp(0.0, 1.0) } else { 0.0 };
        FuelUse { rate, share, cores: used }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn guests_on_one_of_two_cores_use_half_of_the_fuel() {
        let (mut monitor, start) = (FuelMonitor::default(), Instant::now());
        let at = |step: u32| {
            let time = Duration::from_millis(500) * step;
            (start + time, Spent { fuel: u64::from(step) * 250_000_000, cpu: time })
        };
        let mut last = FuelUse { rate: 0.0, share: 0.0, cores: 0.0 };
        for step in 0..10 {
            let (now, spent) = at(step);
            last = monitor.sample(now, spent, 2.0);
        }
        assert_eq!(last.rate, 500_000_000.0);
        assert!((last.share - 0.5).abs() < 1e-9 && (last.cores - 1.0).abs() < 1e-9, "{last:?}");
        // Nothing runs any more: after 2.5 s the averages are zero.
        let (_, spent) = at(9);
        for step in 10..16 {
            last = monitor.sample(at(step).0, spent, 2.0);
        }
        assert_eq!(last, FuelUse { rate: 0.0, share: 0.0, cores: 0.0 });
    }

    #[test]
    fn without_guests_the_share_is_zero() {
        let (mut monitor, now) = (FuelMonitor::default(), Instant::now());
        let none = Spent { fuel: 0, cpu: Duration::ZERO };
        for step in 0..3 {
            assert_eq!(monitor.sample(now + Duration::from_secs(step), none, 2.0).share, 0.0);
        }
    }
}

//! Fuel that guests burn, against what the cores could burn; pure.
//!
//! How much fuel a second of CPU yields differs from guest to guest, ten times and more, so the capacity is calibrated by the
//! guests that run: what their CPU time has yielded lately. The share then says how much of the cores guests have, whatever
//! else the machine does.

use std::collections::VecDeque;

use tokio::time::Instant;
use wasm_worker_sandbox::engine::Spent;

use super::SAMPLES;

/// What a sample counts for in the calibration when the next one comes: half of it is from the last seven seconds.
const FADE: f64 = 0.95;

/// Fuel in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FuelUse {
    /// Units a second.
    pub(crate) rate: f64,
    /// 0 to 1.
    pub(crate) share: f64,
    /// Cores that guests had.
    pub(crate) cores: f64,
}

/// The fuel in use, averaged over 2.5 s.
#[derive(Debug, Default)]
pub(crate) struct FuelMonitor {
    readings: VecDeque<(Instant, Spent)>,
    /// Fuel and seconds of CPU, faded.
    calibration: (f64, f64),
}

impl FuelMonitor {
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
    fn a_core_full_of_guests_is_half_of_two() {
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
        // Nothing runs any more: after 2.5 s that is all there is to see.
        let (_, spent) = at(9);
        for step in 10..16 {
            last = monitor.sample(at(step).0, spent, 2.0);
        }
        assert_eq!(last, FuelUse { rate: 0.0, share: 0.0, cores: 0.0 });
    }

    #[test]
    fn without_guests_there_is_no_share() {
        let (mut monitor, now) = (FuelMonitor::default(), Instant::now());
        let none = Spent { fuel: 0, cpu: Duration::ZERO };
        for step in 0..3 {
            assert_eq!(monitor.sample(now + Duration::from_secs(step), none, 2.0).share, 0.0);
        }
    }
}

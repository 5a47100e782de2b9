//! Cores that the connections to rooms use, sound included. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::recent_jobs::CORES_OF_ROOM;
use super::window::SAMPLES;

/// A reading of the rooms of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoomReading {
    /// The number of open rooms.
    pub(crate) open: usize,
    /// CPU time of all rooms so far; none where the system does not tell.
    pub(crate) cpu: Option<Duration>,
}

/// Averages the use over 2.5 s.
#[derive(Debug, Default)]
pub(crate) struct RoomMonitor {
    readings: VecDeque<(Instant, Duration)>,
}

impl RoomMonitor {
    /// Add a reading, and return the cores that rooms use. Where the system does not tell, each room counts as one without sound.
    pub(crate) fn sample(&mut self, now: Instant, reading: RoomReading) -> f64 {
        let Some(cpu) = reading.cpu else {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
            return reading.open as f64 * CORES_OF_ROOM;
        };
        self.readings.push_back((now, cpu));
        if self.readings.len() > SAMPLES as usize + 1 {
            self.readings.pop_front();
        }
        self.readings.front().map_or(0.0, |(then, first)| {
            let seconds = now.saturating_duration_since(*then).as_secs_f64();
            if seconds > 0.0 { cpu.saturating_sub(*first).as_secs_f64() / seconds } else { 0.0 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_averaged_and_guessed_where_the_system_does_not_tell() {
        let (mut monitor, start) = (RoomMonitor::default(), Instant::now());
        let mut last = 0.0;
        for step in 0..10_u32 {
            let time = Duration::from_millis(500) * step;
            last = monitor.sample(start + time, RoomReading { open: 3, cpu: Some(time / 4) });
        }
        assert!((last - 0.25).abs() < 1e-9, "{last}");
        let guessed = RoomMonitor::default().sample(start, RoomReading { open: 4, cpu: None });
        assert!((guessed - 4.0 * CORES_OF_ROOM).abs() < 1e-12, "{guessed}");
    }
}

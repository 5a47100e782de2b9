//! The time of a track across the lines that carry it: each line has a clock of its own, and what hears the track wants one.

use std::time::Duration;

use tokio::time::Instant;

/// Parts of a second in which times of RTP are told.
const RATE: u64 = 48_000;

/// The time of one track.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// A time of the line, and what it is on the timeline; none where the line is new.
    base: Option<(u64, u64)>,
    /// The newest time, and when it came.
    last: Option<(u64, Instant)>,
}

impl Timeline {
    /// The track is carried by another line, or by the same one anew.
    pub(super) const fn rebase(&mut self) {
        self.base = None;
    }

    /// Whether the next packet is the first one of its line.
    pub(super) const fn is_new(&self) -> bool {
        self.base.is_none()
    }

    /// The time of a packet. Between two lines as much passes as between the arrivals.
    pub(super) fn time(&mut self, line_time: u64, received_at: Instant) -> u64 {
        let last = self.last;
        let (from, to) = *self.base.get_or_insert_with(|| {
            let begin =
                last.map_or(0, |(time, at)| time.saturating_add(parts(received_at.saturating_duration_since(at))));
            (line_time, begin)
        });
        let time = to.wrapping_add(line_time.wrapping_sub(from));
        // A packet that is late does not set the time back.
        let is_late = last.is_some_and(|(newest, _)| (1..RATE).contains(&newest.wrapping_sub(time)));
        if !is_late {
            self.last = Some((time, received_at));
        }
        time
    }
}

fn parts(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / RATE).saturating_mul(RATE) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_over_another_line() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timeline = Timeline::default();
        assert_eq!((timeline.time(5_000, at(0)), timeline.time(5_960, at(20))), (0, 960));
        timeline.rebase();
        assert!(timeline.is_new());
        assert_eq!((timeline.time(70, at(1_020)), timeline.time(1_030, at(1_040))), (48_960, 49_920));
        assert!(!timeline.is_new());
        // An older packet, and the end of the numbers.
        assert_eq!(timeline.time(70, at(1_050)), 48_960);
        timeline.time(u64::MAX, at(1_060));
    }

    #[test]
    fn a_late_packet_does_not_set_the_time_of_another_line_back() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timeline = Timeline::default();
        timeline.time(48_000, at(0));
        timeline.time(96_000, at(1_000));
        assert_eq!(timeline.time(72_000, at(1_001)), 24_000);
        timeline.rebase();
        assert_eq!(timeline.time(7, at(1_100)), 52_800);
    }
}

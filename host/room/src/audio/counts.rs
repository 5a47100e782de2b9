//! Numbers of single tracks, which the room adds up.

use std::time::Duration;

use wasm_worker_core::room::audio::{AudioStatistics, LATENESS};

/// Numbers of one heard track, from its beginning on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeardCounts {
    /// Packets that came, those that were of no use included.
    pub(crate) packets: u64,
    /// Packets that did not come, were no Opus, or came too late or too fast to be heard. Where packets did not come, their
    /// number follows from the time that is missing.
    pub(crate) lost: u64,
    /// Variation of the times between packets, by section 6.4.1 of RFC 3550.
    pub(crate) jitter: Duration,
    /// Sound that was made up.
    pub(crate) concealed: Duration,
    /// Sound that was dropped because the agent was late or held the track, or because it came after silence was delivered for it.
    pub(crate) dropped: Duration,
    /// Bytes of sound that wait.
    pub(crate) bytes_waiting: usize,
}

/// Numbers of one published track, from its beginning on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlayoutCounts {
    /// Packets that went out.
    pub(crate) packets: u64,
    /// Frames of 20 ms that went out more than 10 ms late, or whose time passed without them.
    pub(crate) late: u64,
    /// What was played of all that was written.
    pub(crate) played: Duration,
    /// Bytes of sound that wait.
    pub(crate) bytes_waiting: usize,
}

impl HeardCounts {
    /// Add the numbers of the track to those of its room. Where the track is over, `bytes_waiting` is 0.
    pub(crate) fn add_to(&self, all: &mut AudioStatistics) {
        all.packets_received += self.packets;
        all.packets_lost += self.lost;
        all.jitter = all.jitter.max(self.jitter);
        all.concealed += self.concealed;
        all.dropped += self.dropped;
        all.bytes_waiting += self.bytes_waiting;
    }
}

impl PlayoutCounts {
    /// Add the numbers of the track to those of its room. Where the track is over, `bytes_waiting` is 0.
    pub(crate) fn add_to(&self, all: &mut AudioStatistics) {
        all.packets_sent += self.packets;
        all.frames_late += self.late;
        all.spoken += self.played;
        all.bytes_waiting += self.bytes_waiting;
    }
}

/// Add a packet that went out so late.
pub(crate) fn count_lateness(all: &mut AudioStatistics, late_by: Duration) {
    all.late_by += late_by;
    let place = LATENESS.iter().position(|bound| late_by <= *bound).unwrap_or(LATENESS.len());
    if let Some(count) = all.lateness.get_mut(place) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_group_below_it() {
        let mut all = AudioStatistics::default();
        for late_by in LATENESS {
            count_lateness(&mut all, late_by);
            count_lateness(&mut all, late_by + Duration::from_nanos(1));
        }
        assert_eq!(all.lateness, [1, 2, 2, 2, 2, 2, 2, 1]);
    }
}

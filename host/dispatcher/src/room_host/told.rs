//! What others know of a participant. Pure.
//!
//! Bounds: of a participant that changes all the time, each of the others is told [`FACTS_BYTES_A_SECOND`] a second, and an audience
//! every [`TOLD_PAUSE`], so that it keeps nobody busy. The last state is told in any case.

use std::time::Duration;

use tokio::time::Instant;

use super::hearing::Audience;
use super::pace::Pace;

/// Bytes of the changes of one participant that each of the others is told in a second.
const FACTS_BYTES_A_SECOND: u32 = 64 << 10;
/// A change counts as at least this many bytes.
const FACTS_BYTES_MIN: u32 = 2 << 10;
/// Pause between two words about a participant that changes all the time.
const TOLD_PAUSE: Duration = Duration::from_millis(250);
/// The time whose share of words may come at once.
const TOLD_BURST: Duration = Duration::from_secs(4);

/// What others know of a participant. The changes of one that changes all the time are told now and then, so that it keeps nobody busy.
#[derive(Default)]
pub(super) struct Told {
    facts_pace: Pace,
    /// When others are told of facts that have changed.
    pub(super) facts_due: Option<Instant>,
    /// Whether it has ever said who may hear it.
    pub(super) has_chosen_audience: bool,
    /// The audience that others know.
    pub(super) audience: Audience,
    audience_pace: Pace,
    /// When others are told of another audience.
    pub(super) audience_due: Option<Instant>,
}

impl Told {
    /// Whether others are told at once of facts that have changed and that have this size; later, if not.
    pub(super) fn tells_facts(&mut self, bytes: usize, now: Instant) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).max(FACTS_BYTES_MIN);
        let share = Duration::from_secs(bytes.into()) / FACTS_BYTES_A_SECOND;
        let is_now = self.facts_pace.admits(share, TOLD_BURST, now);
        self.facts_due = (!is_now).then(|| now + TOLD_PAUSE);
        is_now
    }

    /// Whether others are told at once of another audience; later, if not.
    pub(super) fn tells_audience(&mut self, now: Instant) -> bool {
        let is_now = self.audience_pace.admits(TOLD_PAUSE, TOLD_BURST, now);
        self.audience_due = (!is_now).then(|| now + TOLD_PAUSE);
        is_now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_all_the_time_is_told_now_and_then() {
        let (mut told, now) = (Told::default(), Instant::now());
        let count = |told: &mut Told, bytes, at| (0..1_000).filter(|_| told.tells_facts(bytes, at)).count();
        // Four seconds at once, and one that reaches the bound.
        assert_eq!(count(&mut told, 64 << 10, now), 4);
        assert_eq!(told.facts_due, Some(now + TOLD_PAUSE));
        assert_eq!(count(&mut told, 10, now + Duration::from_secs(1)), 32, "small ones count too");
        assert!(told.tells_facts(10, now + Duration::from_secs(60)) && told.facts_due.is_none());
        let audiences = (0..1_000).filter(|_| told.tells_audience(now)).count();
        assert_eq!((audiences, told.audience_due), (16, Some(now + TOLD_PAUSE)));
    }
}

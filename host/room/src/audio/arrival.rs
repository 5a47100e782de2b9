//! What a packet of a heard track says by its time: loss, gap, silence, or nothing. Pure.
//!
//! Silence is no loss: a sender that pauses leaves out time, but no packet. A packet that is missing, or that was no sound, is made up
//! for at most 120 ms; the rest of the time is a gap. Sound is taken at no more than 5/4 of the speed of time, but for ten seconds that
//! may come at once after a stall.

use std::time::Duration;

use tokio::time::Instant;

use super::block::after;
use super::clock::Follows;
use super::toc::{PACKET_TICKS_MAX, TICKS_IN_SECOND};

/// Shortest sound of Opus, 2.5 ms. A smaller step of time is none.
const STEP: u64 = 120;
/// A step back by as much is no delay, but a new beginning: 1 s.
const BACK_MAX: u64 = TICKS_IN_SECOND;
/// A step forward by more says nothing: 10 s.
const FORWARD_MAX: u64 = 10 * TICKS_IN_SECOND;
/// The sound that may come at once.
const BURST: Duration = Duration::from_secs(10);
/// A difference of times above it is no jitter.
const JITTER_MAX: Duration = Duration::from_secs(1);

/// How a packet follows those before it. The order of its fields is that of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Packets that are missing before it; one more where it is too late itself.
    pub(super) lost: u64,
    /// Ticks before it that are to be made up: a multiple of 2.5 ms.
    pub(super) conceal: u64,
    /// How it follows what was made up.
    pub(super) follows: Follows,
    /// Ticks at its beginning that come too late.
    pub(super) skip: u64,
}

/// The packets of one track.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// The time at which the next packet begins, if nothing is missing.
    expected: Option<u64>,
    /// The same of the last packet: where the sound before it ends.
    before: Option<u64>,
    /// Ticks of the last packet.
    length: u64,
    /// Whether a packet since the last sound was no sound.
    is_broken: bool,
    /// The time of the last packet, and when it came.
    last: Option<(u64, Instant)>,
    jitter: Duration,
    /// The time at which all sound that was taken was due, at 5/4 of its speed.
    paid_until: Instant,
}

impl Arrivals {
    /// No packet came yet.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            expected: None,
            before: None,
            length: 0,
            is_broken: false,
            last: None,
            jitter: Duration::ZERO,
            paid_until: now,
        }
    }

    /// A packet came that begins at this time and has so many ticks.
    pub(super) fn take(&mut self, time: u64, ticks: u64, contiguous: bool, now: Instant) -> Arrival {
        let arrival = self.judge(time, ticks, contiguous);
        // One that is too late says nothing of what comes next.
        if arrival.skip < ticks {
            self.measure(time, arrival.follows, now);
            self.is_broken = false;
            self.length = ticks;
            self.before = self.expected.replace(time.wrapping_add(ticks));
        } else if !contiguous {
            self.is_broken = true;
        }
        arrival
    }

    /// The last packet, of so many ticks, was no sound, after all: what comes next follows what was heard or made up before it. Where all
    /// of it came too late, nothing is missing by it.
    pub(super) const fn fail(&mut self, arrival: &Arrival, ticks: u64) {
        if arrival.skip < ticks {
            self.expected = match (arrival.follows, self.before) {
                (Follows::AtOnce | Follows::After(_), Some(before)) => Some(before.wrapping_add(arrival.conceal)),
                (Follows::Anyhow, _) | (_, None) => None,
            };
            self.is_broken = true;
        }
    }

    /// A packet was no sound, and nothing is known of its time.
    pub(super) const fn skip(&mut self) {
        self.is_broken = true;
    }

    /// What comes next does not follow what came.
    pub(super) const fn restart(&mut self) {
        self.expected = None;
        self.is_broken = false;
    }

    /// Whether so many ticks may be taken now.
    pub(super) fn pay(&mut self, ticks: u64, now: Instant) -> bool {
        let paid_until = self.paid_until.max(now);
        let may = paid_until <= after(now, BURST);
        if may {
            self.paid_until = after(paid_until, time_of(ticks) * 4 / 5);
        }
        may
    }

    /// Variation of the times between packets (section 6.4.1 of RFC 3550).
    pub(super) const fn jitter(&self) -> Duration {
        self.jitter
    }

    fn judge(&self, time: u64, ticks: u64, contiguous: bool) -> Arrival {
        let is_loss = !contiguous || self.is_broken;
        let arrival = |lost, conceal, follows, skip| Arrival { lost, conceal, follows, skip };
        let Some(expected) = self.expected else { return arrival(0, 0, Follows::Anyhow, 0) };
        let missing = u64::from(!contiguous);
        let (forward, back) = (time.wrapping_sub(expected), expected.wrapping_sub(time));
        if forward < STEP || back < STEP {
            return arrival(missing, 0, Follows::AtOnce, 0);
        }
        if back < BACK_MAX {
            let too_late = u64::from(back >= ticks);
            return arrival(missing + too_late, 0, Follows::AtOnce, back);
        }
        if forward > FORWARD_MAX {
            return arrival(missing, 0, Follows::Anyhow, 0);
        }
        let conceal = if is_loss { forward.min(PACKET_TICKS_MAX) / STEP * STEP } else { 0 };
        let rest = forward - conceal;
        let follows = if rest < STEP { Follows::AtOnce } else { Follows::After(time_of(rest)) };
        let lost = missing * (forward / self.length.max(STEP)).max(1);
        arrival(lost, conceal, follows, 0)
    }

    fn measure(&mut self, time: u64, follows: Follows, now: Instant) {
        let last = self.last.replace((time, now)).filter(|_| follows != Follows::Anyhow);
        let Some((last_time, last_now)) = last else { return };
        let sent = time_of(time.saturating_sub(last_time).min(FORWARD_MAX));
        let difference = now.saturating_duration_since(last_now).abs_diff(sent).min(JITTER_MAX);
        self.jitter = (self.jitter * 15 + difference) / 16;
    }
}

fn time_of(ticks: u64) -> Duration {
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000) / TICKS_IN_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u64 = 960;

    /// A track of which a second was heard, one packet after the other, up to the time 48,000.
    fn heard() -> (Arrivals, Instant) {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        for i in 0..50 {
            let arrival = arrivals.take(i * FRAME, FRAME, true, start);
            assert_eq!((arrival.lost, arrival.conceal, arrival.skip), (0, 0, 0));
            assert_eq!(arrival.follows, if i == 0 { Follows::Anyhow } else { Follows::AtOnce });
        }
        (arrivals, start)
    }

    #[test]
    fn loss_is_made_up_and_silence_is_not() {
        let ms = |ms| Follows::After(Duration::from_millis(ms));
        for (step, contiguous, lost, conceal, follows) in [
            (0, true, 0, 0, Follows::AtOnce),
            (100, true, 0, 0, Follows::AtOnce),
            (0, false, 1, 0, Follows::AtOnce),
            (19_200, true, 0, 0, ms(400)),
            (FRAME, false, 1, FRAME, Follows::AtOnce),
            (6 * FRAME, false, 6, 5_760, Follows::AtOnce),
            (10 * FRAME, false, 10, 5_760, ms(80)),
            (480_001, true, 0, 0, Follows::Anyhow),
            (1 << 40, false, 1, 0, Follows::Anyhow),
        ] {
            let (mut arrivals, start) = heard();
            let arrival = arrivals.take(48_000 + step, FRAME, contiguous, start);
            assert_eq!(arrival, Arrival { lost, conceal, follows, skip: 0 }, "a step of {step}, {contiguous}");
            let next = arrivals.take(48_000 + step + FRAME, FRAME, true, start);
            assert_eq!(next, Arrival { lost: 0, conceal: 0, follows: Follows::AtOnce, skip: 0 });
        }
    }

    #[test]
    fn sound_that_comes_too_late_is_left_out() {
        for (back, lost, follows, skip) in [
            (100, 0, Follows::AtOnce, 0),
            (480, 0, Follows::AtOnce, 480),
            (FRAME, 1, Follows::AtOnce, FRAME),
            (47_999, 1, Follows::AtOnce, 47_999),
            (48_000, 0, Follows::Anyhow, 0),
        ] {
            let (mut arrivals, start) = heard();
            let arrival = arrivals.take(48_000 - back, FRAME, true, start);
            assert_eq!(arrival, Arrival { lost, conceal: 0, follows, skip }, "{back} back");
            if skip >= FRAME {
                let next = arrivals.take(48_000, FRAME, true, start);
                assert_eq!(next, Arrival { lost: 0, conceal: 0, follows: Follows::AtOnce, skip: 0 });
            }
        }
    }

    #[test]
    fn a_packet_that_is_no_sound_is_made_up() {
        let (mut arrivals, start) = heard();
        let arrival = arrivals.take(48_000, FRAME, true, start);
        arrivals.fail(&arrival, FRAME);
        arrivals.skip();
        let arrival = arrivals.take(48_000 + 2 * FRAME, FRAME, true, start);
        assert_eq!(arrival, Arrival { lost: 0, conceal: 2 * FRAME, follows: Follows::AtOnce, skip: 0 });
        arrivals.restart();
        assert_eq!(arrivals.take(7, FRAME, false, start).follows, Follows::Anyhow);
    }

    #[test]
    fn a_late_packet_that_is_no_sound_does_not_turn_time_back() {
        for (back, from) in [(3 * FRAME, 48_000), (FRAME, 48_000), (480, 48_000)] {
            let (mut arrivals, start) = heard();
            let late = arrivals.take(48_000 - back, FRAME, true, start);
            arrivals.fail(&late, FRAME);
            let next = arrivals.take(from, FRAME, true, start);
            assert_eq!((next.conceal, next.skip, next.follows), (0, 0, Follows::AtOnce), "{back} back");
        }
    }

    #[test]
    fn a_late_packet_hides_no_loss_and_is_no_jitter() {
        let (mut arrivals, start) = heard();
        let arrival = arrivals.take(48_000, FRAME, true, start);
        arrivals.fail(&arrival, FRAME);
        let before = arrivals.jitter();
        arrivals.take(40_000, FRAME, true, start + Duration::from_millis(500));
        assert_eq!(arrivals.jitter(), before);
        let arrival = arrivals.take(48_000 + FRAME, FRAME, true, start);
        assert_eq!(arrival, Arrival { lost: 0, conceal: FRAME, follows: Follows::AtOnce, skip: 0 });
    }

    #[test]
    fn a_loss_before_a_late_packet_is_made_up() {
        let (mut arrivals, start) = heard();
        assert_eq!(arrivals.take(40_000, FRAME, false, start).skip, 8_000);
        let arrival = arrivals.take(48_000 + FRAME, FRAME, true, start);
        assert_eq!(arrival, Arrival { lost: 0, conceal: FRAME, follows: Follows::AtOnce, skip: 0 });
    }

    #[test]
    fn a_gap_lasts_beyond_a_packet_that_is_no_sound() {
        // The packet is made up for 120 ms, behind what was heard.
        for (step, contiguous, follows) in [
            (19_200, true, Follows::After(Duration::from_millis(300))),
            (19_200, false, Follows::After(Duration::from_millis(180))),
            (480_001, true, Follows::Anyhow),
        ] {
            let (mut arrivals, start) = heard();
            let bad = arrivals.take(48_000 + step, FRAME, contiguous, start);
            arrivals.fail(&bad, FRAME);
            let next = arrivals.take(48_000 + step + FRAME, FRAME, true, start);
            assert_eq!(next.follows, follows, "a step of {step}, {contiguous}: {bad:?}, {next:?}");
        }
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        let first = arrivals.take(7, FRAME, true, start);
        arrivals.fail(&first, FRAME);
        assert_eq!(arrivals.take(7 + FRAME, FRAME, true, start).follows, Follows::Anyhow);
    }

    #[test]
    fn sound_is_taken_at_the_speed_of_time() {
        let (mut arrivals, start) = heard();
        let burst = (0..10_000).filter(|_| arrivals.pay(FRAME, start)).count();
        assert!((600..650).contains(&burst), "{burst} packets at once");
        assert!(!arrivals.pay(FRAME, start + Duration::from_millis(1)));
        // At the speed of time there is no end, and what was taken at once is made good.
        let later = start + Duration::from_millis(100);
        let more = (0..3_000).filter(|i| arrivals.pay(FRAME, later + Duration::from_millis(20) * *i)).count();
        assert_eq!(more, 3_000);
        assert!(arrivals.paid_until <= later + Duration::from_secs(60));
    }

    #[test]
    fn jitter_is_that_of_the_standard() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        let mut expected = 0.0;
        for i in 0..100_u64 {
            let late = if i % 2 == 0 { 0 } else { 8 };
            arrivals.take(i * FRAME, FRAME, true, start + Duration::from_millis(20 * i + late));
            expected += if i == 0 { 0.0 } else { (8.0 - expected) / 16.0 };
        }
        assert!((arrivals.jitter().as_secs_f64() * 1_000.0 - expected).abs() < 0.01, "{:?}", arrivals.jitter());
        // A new beginning is no jitter.
        let before = arrivals.jitter();
        arrivals.take(1 << 50, FRAME, true, start);
        assert_eq!(arrivals.jitter(), before);
    }
}

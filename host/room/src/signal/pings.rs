//! Pings of the link: they keep it open, and their answers prove that the server is there.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use tokio::time::Instant;

/// What LiveKit's server asks for.
const INTERVAL: Duration = Duration::from_secs(5);
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Time from a request to the ping that proves its arrival.
const PROOF_AFTER: Duration = Duration::from_millis(100);
/// What a server may ask for.
const INTERVAL_LONGEST: Duration = Duration::from_secs(60);

/// The pings of one room.
#[derive(Debug)]
pub(super) struct Pings {
    /// Times in pings count from here.
    began: Instant,
    interval: Duration,
    /// Silence after which the link is lost.
    silence_max: Duration,
    next_at: Instant,
    heard_at: Instant,
    /// The time between the last ping and its answer.
    round_trip: Duration,
}

impl Pings {
    pub(super) const fn new(now: Instant) -> Self {
        let (next_at, heard_at, round_trip) = (now, now, Duration::ZERO);
        Self { began: now, interval: INTERVAL, silence_max: SILENCE_MAX, next_at, heard_at, round_trip }
    }

    /// Take the times that the server asks for, in seconds.
    pub(super) fn ask(&mut self, interval_s: i32, silence_max_s: i32, now: Instant) {
        let seconds = |given: i32| u64::try_from(given).ok().filter(|given| *given > 0).map(Duration::from_secs);
        self.interval = seconds(interval_s).unwrap_or(INTERVAL).min(INTERVAL_LONGEST);
        // A silence shorter than two intervals would end good links.
        let silence_max = seconds(silence_max_s).unwrap_or(SILENCE_MAX);
        self.silence_max = silence_max.clamp(self.interval * 2, INTERVAL_LONGEST * 3);
        self.next_at = now + self.interval;
    }

    /// The server said something.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// The server answered a ping. Returns when that was sent.
    pub(super) fn answered(&mut self, pong: proto::Pong, now: Instant) -> Instant {
        let since = now.saturating_duration_since(self.began);
        let sent = Duration::from_millis(u64::try_from(pong.last_ping_timestamp).unwrap_or_default()).min(since);
        self.round_trip = (since - sent).min(self.silence_max);
        self.began + sent
    }

    /// The ping that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Request> {
        if now < self.next_at {
            return None;
        }
        self.next_at = now + self.interval;
        let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let timestamp = milliseconds(now.saturating_duration_since(self.began));
        Some(Request::PingReq(proto::Ping { timestamp, rtt: milliseconds(self.round_trip) }))
    }

    /// A request was sent that has no answer. The next ping goes out soon, because the answer to it proves that the request arrived.
    pub(super) fn prove(&mut self, now: Instant) {
        self.next_at = self.next_at.min(now + PROOF_AFTER);
    }

    /// Whether the server was silent for too long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard_at) >= self.silence_max
    }

    /// When a ping is due, or the silence too long.
    pub(super) fn wake_at(&self) -> Instant {
        self.next_at.min(self.heard_at + self.silence_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_server_are_bounded() {
        let now = Instant::now();
        let mut pings = Pings::new(now);
        let asked = |pings: &mut Pings, interval, silence| {
            pings.ask(interval, silence, now);
            (pings.interval.as_secs(), pings.silence_max.as_secs())
        };
        assert_eq!(asked(&mut pings, 5, 15), (5, 15));
        assert_eq!(asked(&mut pings, 0, -1), (5, 15));
        assert_eq!(asked(&mut pings, 10, 1), (10, 20));
        assert_eq!(asked(&mut pings, i32::MAX, i32::MAX), (60, 180));
    }

    #[test]
    fn a_silent_server_is_noticed_and_a_round_trip_measured() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut pings = Pings::new(now);
        pings.ask(5, 15, now);
        assert!(pings.due(at(4_999)).is_none());
        let Some(Request::PingReq(ping)) = pings.due(at(5_000)) else { panic!() };
        assert_eq!(ping, proto::Ping { timestamp: 5_000, rtt: 0 });
        pings.heard(at(5_030));
        pings.answered(proto::Pong { last_ping_timestamp: ping.timestamp, timestamp: 0 }, at(5_030));
        assert_eq!(pings.wake_at(), at(10_000));
        let Some(Request::PingReq(ping)) = pings.due(at(10_000)) else { panic!() };
        assert_eq!(ping.rtt, 30);
        assert!(!pings.is_silent(at(20_029)) && pings.is_silent(at(20_030)));
    }
}

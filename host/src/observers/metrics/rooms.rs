//! The metrics of rooms.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use wasm_worker_core::usage::RoomUse;

use super::labels::AgentLabel;
use super::sound::SoundMetrics;

/// Buckets from 10 ms, a server on this machine, to 15 s, the longest that a join may take.
const JOIN_SECONDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];

/// The metrics of all rooms.
pub(super) struct RoomMetrics {
    rooms: Family<AgentLabel, Gauge>,
    joins: Family<OutcomeLabels, Counter>,
    join: Family<AgentLabel, Histogram>,
    reconnects: Family<KindLabels, Counter>,
    packets: Family<DirectionLabels, Counter>,
    bytes: Family<DirectionLabels, Counter>,
    sound: SoundMetrics,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    agent: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    agent: String,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DirectionLabels {
    agent: String,
    direction: &'static str,
}

impl RoomMetrics {
    /// The metrics, not yet registered.
    pub(super) fn new() -> Self {
        Self {
            rooms: Family::default(),
            joins: Family::default(),
            join: Family::new_with_constructor(|| Histogram::new(JOIN_SECONDS)),
            reconnects: Family::default(),
            packets: Family::default(),
            bytes: Family::default(),
            sound: SoundMetrics::new(),
        }
    }

    /// Register the metrics.
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("rooms", "Rooms that agents are in", self.rooms.clone());
        r.register("room_joins", "Joins of rooms, by outcome: joined, failed", self.joins.clone());
        r.register("room_join_seconds", "Time from the request of a join to its open data channels", self.join.clone());
        let text = "Lost connections to rooms that were made again, by kind: resume, rejoin";
        r.register("room_reconnects", text, self.reconnects.clone());
        let text = "Packets of the data channels of rooms, by direction";
        r.register("room_packets", text, self.packets.clone());
        let text = "Bytes on the connections to rooms, by direction";
        r.register("room_bytes", text, self.bytes.clone());
        self.sound.register(r);
    }

    /// The metrics of an agent exist from the start, with the value zero.
    pub(super) fn add_agent(&self, agent: &str) {
        drop((self.rooms.get_or_create(&of(agent)), self.join.get_or_create(&of(agent))));
        ["joined", "failed"].into_iter().for_each(|outcome| self.count_join(agent, outcome, 0));
        self.count_use(agent, &RoomUse::default());
    }

    /// An agent joined a room.
    pub(super) fn joined(&self, agent: &str, took_ms: u64) {
        self.rooms.get_or_create(&of(agent)).inc();
        self.join.get_or_create(&of(agent)).observe(seconds(took_ms));
        self.count_join(agent, "joined", 1);
    }

    /// An agent could not join a room. `uncounted` is the part of its use that was not counted before.
    pub(super) fn failed(&self, agent: &str, uncounted: &RoomUse) {
        self.count_join(agent, "failed", 1);
        self.count_use(agent, uncounted);
    }

    /// An agent left a room. `uncounted` is the part of its use that was not counted before.
    pub(super) fn left(&self, agent: &str, uncounted: &RoomUse) {
        self.rooms.get_or_create(&of(agent)).dec();
        self.count_use(agent, uncounted);
    }

    fn count_join(&self, agent: &str, outcome: &'static str, count: u64) {
        self.joins.get_or_create(&OutcomeLabels { agent: agent.into(), outcome }).inc_by(count);
    }

    /// Count a part of the use of a connection.
    pub(super) fn count_use(&self, agent: &str, used: &RoomUse) {
        for (kind, count) in [("resume", used.resumes), ("rejoin", used.rejoins)] {
            self.reconnects.get_or_create(&KindLabels { agent: agent.into(), kind }).inc_by(count.into());
        }
        let received = ("received", used.packets_received, used.bytes_received);
        for (direction, packets, bytes) in [received, ("sent", used.packets_sent, used.bytes_sent)] {
            let labels = DirectionLabels { agent: agent.into(), direction };
            self.packets.get_or_create(&labels).inc_by(packets);
            self.bytes.get_or_create(&labels).inc_by(bytes);
        }
        self.sound.count(agent, &used.audio);
    }
}

fn of(agent: &str) -> AgentLabel {
    AgentLabel { agent: agent.into() }
}

#[expect(clippy::cast_precision_loss, reason = "no join takes 2^53 ms")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn rooms_are_counted_from_their_join_to_their_end() {
        let (metrics, mut registry) = (RoomMetrics::new(), Registry::default());
        metrics.register(&mut registry);
        metrics.add_agent("a");
        metrics.joined("a", 50);
        metrics.joined("a", 60);
        metrics.failed("a", &RoomUse { bytes_sent: 5, ..RoomUse::default() });
        metrics.count_use("a", &RoomUse { bytes_sent: 3, ..RoomUse::default() });
        let used = RoomUse { resumes: 2, bytes_sent: 7, ..RoomUse::default() };
        metrics.left("a", &used);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"rooms{agent="a"} 1"#,
            r#"room_joins_total{agent="a",outcome="joined"} 2"#,
            r#"room_joins_total{agent="a",outcome="failed"} 1"#,
            r#"room_join_seconds_count{agent="a"} 2"#,
            r#"room_reconnects_total{agent="a",kind="resume"} 2"#,
            r#"room_reconnects_total{agent="a",kind="rejoin"} 0"#,
            r#"room_bytes_total{agent="a",direction="sent"} 15"#,
            r#"room_packets_total{agent="a",direction="received"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
        }
    }
}

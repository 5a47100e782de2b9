//! The metrics of the sound in rooms.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use wasm_worker_core::usage::AudioUse;

use super::labels::AgentLabel;
use super::lateness::Lateness;

/// Buckets from 1 ms, a network without load, to 200 ms, where speech breaks up.
const JITTER_SECONDS: [f64; 8] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2];

type Seconds = Counter<f64, AtomicU64>;

/// The metrics of all tracks.
pub(super) struct SoundMetrics {
    seconds: Family<KindLabels, Seconds>,
    packets: Family<KindLabels, Counter>,
    late: Family<AgentLabel, Counter>,
    lateness: Family<AgentLabel, Lateness>,
    cpu: Family<AgentLabel, Seconds>,
    jitter: Family<AgentLabel, Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    agent: String,
    kind: &'static str,
}

impl SoundMetrics {
    /// The metrics, not yet registered.
    pub(super) fn new() -> Self {
        Self {
            seconds: Family::default(),
            packets: Family::default(),
            late: Family::default(),
            lateness: Family::default(),
            cpu: Family::default(),
            jitter: Family::new_with_constructor(|| Histogram::new(JITTER_SECONDS)),
        }
    }

    /// Register the metrics.
    pub(super) fn register(&self, r: &mut Registry) {
        let text = "Sound of rooms in seconds, by kind: heard, spoken, concealed (made up for lost packets), dropped (the agent or the sound was late)";
        r.register("room_audio_seconds", text, self.seconds.clone());
        let text = "Packets of the tracks of sound of rooms, by kind: received, lost, sent";
        r.register("room_audio_packets", text, self.packets.clone());
        let text = "Frames of agents' tracks that went out late, or not at all, because the host was late";
        r.register("room_audio_late_frames", text, self.late.clone());
        let text = "Time from the moment at which a packet of an agent's track was due until it went out";
        r.register("room_audio_lateness_seconds", text, self.lateness.clone());
        let text = "Time that decoding, examining and encoding the sound of rooms took";
        r.register("room_audio_cpu_seconds", text, self.cpu.clone());
        let text = "Variation of the times between packets of a room with sound, once in each reading of these metrics";
        r.register("room_audio_jitter_seconds", text, self.jitter.clone());
    }

    /// Count a part of the use of a connection.
    pub(super) fn count(&self, agent: &str, used: &AudioUse) {
        let kinds = [
            ("heard", used.heard_ms),
            ("spoken", used.spoken_ms),
            ("concealed", used.concealed_ms),
            ("dropped", used.dropped_ms),
        ];
        for (kind, millis) in kinds {
            self.seconds.get_or_create(&KindLabels { agent: agent.into(), kind }).inc_by(parts(millis, 1e3));
        }
        for (kind, count) in
            [("received", used.packets_received), ("lost", used.packets_lost), ("sent", used.packets_sent)]
        {
            self.packets.get_or_create(&KindLabels { agent: agent.into(), kind }).inc_by(count);
        }
        let of = AgentLabel { agent: agent.into() };
        self.late.get_or_create(&of).inc_by(used.frames_late);
        self.lateness.get_or_create(&of).add(used);
        self.cpu.get_or_create(&of).inc_by(parts(used.cpu_us, 1e6));
        if used.packets_received > 0 {
            self.jitter.get_or_create(&of).observe(parts(used.jitter_us, 1e6));
        } else {
            drop(self.jitter.get_or_create(&of));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no sound lasts 2^53 ms")]
fn parts(count: u64, of: f64) -> f64 {
    count as f64 / of
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn sound_is_counted_by_kind_and_silence_has_no_jitter() {
        let (metrics, mut registry) = (SoundMetrics::new(), Registry::default());
        metrics.register(&mut registry);
        metrics.count("a", &AudioUse::default());
        let used = AudioUse {
            heard_ms: 1_500,
            dropped_ms: 20,
            packets_received: 75,
            packets_lost: 2,
            frames_late: 1,
            lateness: [70, 4, 0, 0, 0, 0, 0, 1],
            late_us: 250_000,
            jitter_us: 4_000,
            cpu_us: 9_000,
            ..AudioUse::default()
        };
        metrics.count("a", &used);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"room_audio_seconds_total{agent="a",kind="heard"} 1.5"#,
            r#"room_audio_seconds_total{agent="a",kind="dropped"} 0.02"#,
            r#"room_audio_packets_total{agent="a",kind="lost"} 2"#,
            r#"room_audio_late_frames_total{agent="a"} 1"#,
            r#"room_audio_lateness_seconds_bucket{le="0.001",agent="a"} 70"#,
            r#"room_audio_lateness_seconds_bucket{le="0.1",agent="a"} 74"#,
            r#"room_audio_lateness_seconds_bucket{le="+Inf",agent="a"} 75"#,
            r#"room_audio_lateness_seconds_count{agent="a"} 75"#,
            r#"room_audio_lateness_seconds_sum{agent="a"} 0.25"#,
            r#"room_audio_cpu_seconds_total{agent="a"} 0.009"#,
            r#"room_audio_jitter_seconds_count{agent="a"} 1"#,
            r#"room_audio_jitter_seconds_bucket{le="0.005",agent="a"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
        }
    }
}

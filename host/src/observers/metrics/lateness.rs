//! A histogram of how late packets of sound went out. The room counts the packets, once for all who ask; this adds up what it counted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};
use wasm_worker_core::room::audio::LATENESS;
use wasm_worker_core::usage::AudioUse;

/// The packets of one agent.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    counts: [AtomicU64; LATENESS.len() + 1],
    micros: AtomicU64,
}

impl Lateness {
    /// Add those of a part of the use of a connection.
    pub(super) fn add(&self, used: &AudioUse) {
        for (count, more) in self.counts.iter().zip(used.lateness) {
            count.fetch_add(more, Ordering::Relaxed);
        }
        self.micros.fetch_add(used.late_us, Ordering::Relaxed);
    }
}

impl TypedMetric for Lateness {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Lateness {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let bounds = LATENESS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.zip(self.counts.each_ref().map(|count| count.load(Ordering::Relaxed))).collect();
        let sum = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, buckets.iter().map(|(_, count)| count).sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

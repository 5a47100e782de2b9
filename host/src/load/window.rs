//! The averaging window of the load.

use std::time::Duration;

/// The interval between two samples, as in LiveKit's workers.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// The number of samples in an average.
pub(crate) const SAMPLES: u32 = 5;
/// The time that the measured load is an average of.
pub(crate) const WINDOW: Duration = SAMPLE_EVERY.saturating_mul(SAMPLES);

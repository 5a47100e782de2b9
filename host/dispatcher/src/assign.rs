//! Which worker is offered a job: weighted by spare capacity, drawn by lot. Pure.
//!
//! Load says how much of a worker is in use, but only as of its last report; so offers that it has not answered yet count too.

/// One worker that could take the job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// As it reports, 0 to 1.
    pub(crate) load: f32,
    /// Offers that it has not answered.
    pub(crate) asked: usize,
}

/// A worker that says it is available is never quite out of the running.
const WEIGHT_MIN: f64 = 0.01;

impl Candidate {
    fn weight(self) -> f64 {
        let spare = (1.0 - f64::from(self.load)).clamp(WEIGHT_MIN, 1.0);
        #[expect(clippy::cast_precision_loss, reason = "a few offers")]
        let asked = self.asked as f64;
        spare / (1.0 + asked)
    }
}

/// The place of the one that is chosen by this lot, which is at least 0 and below 1. None when there is none.
pub(crate) fn choose(candidates: &[Candidate], lot: f64) -> Option<usize> {
    let total: f64 = candidates.iter().map(|candidate| candidate.weight()).sum();
    let mut left = lot * total;
    let found = candidates.iter().position(|candidate| {
        left -= candidate.weight();
        left < 0.0
    });
    // Rounding may leave a crumb.
    found.or(candidates.len().checked_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(candidates: &[Candidate], place: usize) -> f64 {
        let lots = 10_000;
        let hits = (0..lots).filter(|lot| choose(candidates, f64::from(*lot) / f64::from(lots)) == Some(place)).count();
        hits as f64 / f64::from(lots)
    }

    #[test]
    fn spare_capacity_decides_and_open_offers_count() {
        let idle = Candidate { load: 0.0, asked: 0 };
        assert_eq!(choose(&[], 0.5), None);
        assert_eq!(choose(&[idle], 0.999_999), Some(0));
        let half = Candidate { load: 0.5, asked: 0 };
        assert!((share(&[idle, half], 0) - 2.0 / 3.0).abs() < 0.01);
        let asked = Candidate { load: 0.0, asked: 3 };
        assert!((share(&[idle, asked], 0) - 0.8).abs() < 0.01);
        let strange = Candidate { load: f32::NAN, asked: 0 };
        assert!(choose(&[strange, idle], 0.3).is_some());
    }
}

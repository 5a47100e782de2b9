//! The choice of the worker that is offered a job: random, weighted by spare capacity. Pure.
//!
//! A load is as old as the worker's last status message, so offers that the worker has not answered count as well.

/// A worker that could take the job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// The load that the worker reports, 0 to 1.
    pub(crate) load: f32,
    /// Offers that the worker has not answered.
    pub(crate) offers: usize,
}

/// Least spare capacity that is assumed, so that every available worker has a chance.
const SPARE_MIN: f64 = 0.01;

impl Candidate {
    fn weight(self) -> f64 {
        let spare = (1.0 - f64::from(self.load)).clamp(SPARE_MIN, 1.0);
        #[expect(clippy::cast_precision_loss, reason = "a few offers")]
        let offers = self.offers as f64;
        spare / (1.0 + offers)
    }
}

/// The position of the chosen candidate; `None` where there is none. `random` is at least 0 and below 1.
pub(crate) fn choose(candidates: &[Candidate], random: f64) -> Option<usize> {
    let total: f64 = candidates.iter().map(|candidate| candidate.weight()).sum();
    let mut left = random * total;
    let chosen = candidates.iter().position(|candidate| {
        left -= candidate.weight();
        left < 0.0
    });
    // Rounding may leave a remainder.
    chosen.or(candidates.len().checked_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(candidates: &[Candidate], position: usize) -> f64 {
        let draws = 10_000;
        let chosen = |draw: i32| choose(candidates, f64::from(draw) / f64::from(draws));
        let hits = (0..draws).filter(|draw| chosen(*draw) == Some(position)).count();
        hits as f64 / f64::from(draws)
    }

    #[test]
    fn choice_is_weighted_by_spare_capacity_and_open_offers() {
        let idle = Candidate { load: 0.0, offers: 0 };
        assert_eq!(choose(&[], 0.5), None);
        assert_eq!(choose(&[idle], 0.999_999), Some(0));
        let half = Candidate { load: 0.5, offers: 0 };
        assert!((share(&[idle, half], 0) - 2.0 / 3.0).abs() < 0.01);
        let asked = Candidate { load: 0.0, offers: 3 };
        assert!((share(&[idle, asked], 0) - 0.8).abs() < 0.01);
        let invalid = Candidate { load: f32::NAN, offers: 0 };
        assert!(choose(&[invalid, idle], 0.3).is_some());
    }
}

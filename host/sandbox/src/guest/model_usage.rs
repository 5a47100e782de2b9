//! The use of models by one job, as its agent reported it, summed for each kind, provider and model.
//!
//! Bounds: [`MODELS_MAX`] models, [`COUNTERS_MAX`] counters of each, names of [`NAME_BYTES_MAX`], [`NAMES_BYTES_MAX`] in all names
//! together. The sums are in the job's record, which outlives the job.

use wasm_worker_core::usage::ModelSums;

use super::bindings::wasm_worker::agent::usage::ModelUsage;

const MODELS_MAX: usize = 64;
const COUNTERS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 128;
const NAMES_BYTES_MAX: usize = 16 << 10;

fn names_bytes(sums: &ModelSums) -> usize {
    let own = sums.kind.len() + sums.provider.len() + sums.model.len();
    own + sums.counters.keys().map(String::len).sum::<usize>()
}

/// The sums of one job.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelUsageTable(Vec<ModelSums>);

impl ModelUsageTable {
    /// The sums, in the order of their first report.
    pub(crate) fn sums(&self) -> &[ModelSums] {
        &self.0
    }

    /// Add one report. A report that exceeds a bound changes nothing.
    pub(crate) fn add(&mut self, used: ModelUsage) -> Result<(), String> {
        let ModelUsage { kind, provider, model, counters } = used;
        let names = [&kind, &provider, &model].into_iter().chain(counters.iter().map(|(name, _)| name));
        let longest = names.map(String::len).max().unwrap_or(0);
        if longest > NAME_BYTES_MAX {
            return Err(format!("a name of {longest} bytes, want at most {NAME_BYTES_MAX}"));
        }
        if let Some((name, amount)) = counters.iter().find(|(_, amount)| !amount.is_finite()) {
            return Err(format!("`{name}` is {amount}, want a finite number"));
        }
        let known =
            self.0.iter().position(|sums| sums.kind == kind && sums.provider == provider && sums.model == model);
        let old = known.and_then(|at| self.0.get(at)).map(|sums| sums.counters.clone()).unwrap_or_default();
        let mut sums = ModelSums { kind, provider, model, counters: old };
        for (name, amount) in counters {
            *sums.counters.entry(name).or_default() += amount;
        }
        if sums.counters.len() > COUNTERS_MAX {
            return Err(format!("{} counters of one model, want at most {COUNTERS_MAX}", sums.counters.len()));
        }
        if known.is_none() && self.0.len() == MODELS_MAX {
            return Err(format!("more than {MODELS_MAX} models"));
        }
        let others = self.0.iter().enumerate().filter(|(at, _)| Some(*at) != known).map(|(_, sums)| sums);
        let names: usize = others.chain([&sums]).map(names_bytes).sum();
        if names > NAMES_BYTES_MAX {
            return Err(format!("{names} bytes of names in all, want at most {NAMES_BYTES_MAX}"));
        }
        match known.and_then(|at| self.0.get_mut(at)) {
            Some(slot) => *slot = sums,
            None => self.0.push(sums),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(model: &str, counters: &[(&str, f64)]) -> ModelUsage {
        ModelUsage {
            kind: "llm".into(),
            provider: "p".into(),
            model: model.into(),
            counters: counters.iter().map(|(name, amount)| ((*name).into(), *amount)).collect(),
        }
    }

    #[test]
    fn sums_are_per_model_and_bounded() {
        let mut table = ModelUsageTable::default();
        table.add(used("a", &[("input_tokens", 10.0), ("output_tokens", 1.0)])).unwrap();
        table.add(used("b", &[])).unwrap();
        table.add(used("a", &[("input_tokens", 5.0)])).unwrap();
        assert_eq!(table.0.len(), 2);
        assert_eq!(table.0[0].counters["input_tokens"], 15.0);

        let added = (0..MODELS_MAX).filter(|n| table.add(used(&n.to_string(), &[])).is_ok()).count();
        assert_eq!(added, MODELS_MAX - 2);
        assert!(table.add(used(&"x".repeat(1_000), &[])).is_err());
        let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let counters: Vec<(&str, f64)> = many.iter().map(|name| (name.as_str(), 1.0)).collect();
        assert!(table.add(used("a", &counters)).is_err());
        assert!(table.add(used("a", &[("input_tokens", f64::NAN)])).is_err());
        assert_eq!(table.0[0].counters.len(), 2);
        let long: Vec<String> = (0..COUNTERS_MAX).map(|n| format!("{n:0>NAME_BYTES_MAX$}")).collect();
        let counters: Vec<(&str, f64)> = long.iter().map(|name| (name.as_str(), 1.0)).collect();
        let taken = (2..MODELS_MAX).filter(|n| table.add(used(&n.to_string(), &counters)).is_ok()).count();
        assert_eq!(taken, 3, "of 4 KiB each, beside the short ones");
    }
}

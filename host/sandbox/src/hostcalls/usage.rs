//! `wasm-worker:agent/usage`: what models used, as the agent reports it.

use std::sync::atomic::Ordering;

use wasm_worker_core::record::LogLevel;
use wasm_worker_core::usage::ModelSums;

use super::{Interface, Own};
use crate::guest::bindings::wasm_worker::agent::usage::{self, Host, ModelUsage};
use crate::guest::{HostState, Part};

/// The interfaces of this file.
pub(super) const INTERFACES: &[Interface] = &[Interface {
    name: "wasm-worker:agent/usage",
    add_to_linker: |linker| usage::add_to_linker::<_, Own>(linker, |state| state),
}];

impl Host for HostState {
    fn add(&mut self, used: ModelUsage) -> wasmtime::Result<()> {
        self.meter.calls.usage.add(used.counters.len() * size_of::<f64>());
        if self.part == Part::Job {
            match self.usage.add(used) {
                Ok(()) => {
                    let tokens = self.usage.sums().iter().map(ModelSums::tokens).fold(0, u64::saturating_add);
                    self.control.tokens.store(tokens, Ordering::Relaxed);
                }
                Err(why) => {
                    self.control.log().write(LogLevel::Warn, &format!("usage is not counted: {why}"), &[]);
                }
            }
        }
        Ok(())
    }

    fn summary(&mut self) -> wasmtime::Result<Vec<ModelUsage>> {
        self.meter.calls.usage.add(0);
        let usage_of = |sums: &ModelSums| ModelUsage {
            kind: sums.kind.clone(),
            provider: sums.provider.clone(),
            model: sums.model.clone(),
            counters: sums.counters.iter().map(|(name, amount)| (name.clone(), *amount)).collect(),
        };
        Ok(self.usage.sums().iter().map(usage_of).collect())
    }
}

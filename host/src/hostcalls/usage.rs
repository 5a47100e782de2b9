//! `wasm-worker:agent/usage`: what models used, summed per kind, provider and model.

use super::HostState;
use super::bindings::wasm_worker::agent::usage::{Host, LlmUsage, ModelUsage, SttUsage, TtsUsage};
use super::control::Kill;
use super::meter::Interface;

/// Kinds, providers and models that one job may use.
const MODELS_MAX: usize = 256;

/// The sums of one job.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelUsageTable(Vec<ModelUsage>);

impl ModelUsageTable {
    pub(crate) fn sums(&self) -> Vec<ModelUsage> {
        self.0.clone()
    }

    /// False when there is no room for another model.
    fn add(&mut self, used: ModelUsage) -> bool {
        if let Some(sum) = self.0.iter_mut().find(|sum| same_model(sum, &used)) {
            add_up(sum, &used);
            return true;
        }
        let fits = self.0.len() < MODELS_MAX;
        if fits {
            self.0.push(used);
        }
        fits
    }
}

impl Host for HostState {
    fn add(&mut self, used: ModelUsage) -> wasmtime::Result<()> {
        let bytes = match &used {
            ModelUsage::Llm(LlmUsage { provider, model, .. })
            | ModelUsage::Stt(SttUsage { provider, model, .. })
            | ModelUsage::Tts(TtsUsage { provider, model, .. }) => provider.len() + model.len(),
        };
        self.meter.count(Interface::Usage, bytes);
        let before = self.usage.0.len();
        if !self.usage.add(used) {
            return Err(
                Kill::Hostcall { what: "models in the usage table", wanted: before + 1, limit: MODELS_MAX }.into()
            );
        }
        if self.usage.0.len() > before {
            self.meter.charge(bytes + size_of::<ModelUsage>())?;
        }
        Ok(())
    }

    fn summary(&mut self) -> wasmtime::Result<Vec<ModelUsage>> {
        self.meter.count(Interface::Usage, 0);
        Ok(self.usage.0.clone())
    }
}

fn same_model(a: &ModelUsage, b: &ModelUsage) -> bool {
    match (a, b) {
        (ModelUsage::Llm(a), ModelUsage::Llm(b)) => (&a.provider, &a.model) == (&b.provider, &b.model),
        (ModelUsage::Stt(a), ModelUsage::Stt(b)) => (&a.provider, &a.model) == (&b.provider, &b.model),
        (ModelUsage::Tts(a), ModelUsage::Tts(b)) => (&a.provider, &a.model) == (&b.provider, &b.model),
        (ModelUsage::Llm(_) | ModelUsage::Stt(_) | ModelUsage::Tts(_), _) => false,
    }
}

fn add_up(sum: &mut ModelUsage, more: &ModelUsage) {
    fn add(sum: &mut u32, more: u32) {
        *sum = sum.saturating_add(more);
    }
    match (sum, more) {
        (ModelUsage::Llm(sum), ModelUsage::Llm(more)) => {
            add(&mut sum.input_tokens, more.input_tokens);
            add(&mut sum.input_cached_tokens, more.input_cached_tokens);
            add(&mut sum.output_tokens, more.output_tokens);
        }
        (ModelUsage::Stt(sum), ModelUsage::Stt(more)) => {
            add(&mut sum.audio_duration_ms, more.audio_duration_ms);
            add(&mut sum.input_tokens, more.input_tokens);
            add(&mut sum.output_tokens, more.output_tokens);
        }
        (ModelUsage::Tts(sum), ModelUsage::Tts(more)) => {
            add(&mut sum.characters_count, more.characters_count);
            add(&mut sum.audio_duration_ms, more.audio_duration_ms);
            add(&mut sum.input_tokens, more.input_tokens);
            add(&mut sum.output_tokens, more.output_tokens);
        }
        (ModelUsage::Llm(_) | ModelUsage::Stt(_) | ModelUsage::Tts(_), _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llm(model: &str, input_tokens: u32) -> ModelUsage {
        ModelUsage::Llm(LlmUsage {
            provider: "p".into(),
            model: model.into(),
            input_tokens,
            input_cached_tokens: 1,
            output_tokens: 2,
        })
    }

    #[test]
    fn sums_are_per_model_and_stop_at_the_top() {
        let mut table = ModelUsageTable::default();
        assert!(table.add(llm("a", 10)) && table.add(llm("b", 1)) && table.add(llm("a", u32::MAX)));
        let ModelUsage::Llm(a) = &table.0[0] else { panic!() };
        assert_eq!((a.input_tokens, a.input_cached_tokens, a.output_tokens), (u32::MAX, 2, 4));
        assert_eq!(table.0.len(), 2);
        let added = (0..MODELS_MAX).filter(|n| table.add(llm(&n.to_string(), 1))).count();
        assert_eq!(added, MODELS_MAX - 2);
    }
}

//! What models used, summed by the host into the job's record.

use crate::bindings::wasm_worker::agent::usage;
use crate::types::{LlmUsage, ModelUsage, SttUsage, TtsUsage};

/// Adds up usage per provider and model. The sums live in the host, so they survive a crash of the agent.
#[derive(Clone, Copy, Debug)]
pub struct UsageCollector;

impl UsageCollector {
    /// Count one call of a language model.
    pub fn llm(&self, used: LlmUsage) {
        usage::add(&ModelUsage::Llm(used));
    }

    /// Count recognised speech.
    pub fn stt(&self, used: SttUsage) {
        usage::add(&ModelUsage::Stt(used));
    }

    /// Count spoken text.
    pub fn tts(&self, used: TtsUsage) {
        usage::add(&ModelUsage::Tts(used));
    }

    /// The sums so far.
    ///
    /// ```no_run
    /// # fn example(ctx: &wasm_worker_sdk::JobContext) {
    /// log::info!("{:?}", ctx.usage().summary());
    /// # }
    /// ```
    pub fn summary(&self) -> Vec<ModelUsage> {
        usage::summary()
    }
}

//! Usage of models, summed by the host into the job's record.

use crate::calls::usage;
use crate::types::ModelUsage;

/// Counts usage by provider and model. The host keeps the sums, so they survive a crash of the agent.
#[derive(Clone, Copy, Debug)]
pub struct UsageCollector;

/// Usage of one call of a language model, under LiveKit's names.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LlmUsage {
    /// Number of tokens sent to the model.
    pub input_tokens: u64,
    /// Number of those tokens that the provider had cached.
    pub input_cached_tokens: u64,
    /// Number of tokens received from the model.
    pub output_tokens: u64,
}

/// Usage of speech recognition, under LiveKit's names.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SttUsage {
    /// Duration of the audio in seconds.
    pub audio_duration: f64,
    /// Number of input tokens, for models that count tokens.
    pub input_tokens: u64,
    /// Number of output tokens, for models that count tokens.
    pub output_tokens: u64,
}

/// Usage of speech synthesis, under LiveKit's names.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TtsUsage {
    /// Number of characters of the text.
    pub characters_count: u64,
    /// Duration of the audio in seconds.
    pub audio_duration: f64,
}

impl UsageCollector {
    /// Counts one call of a language model.
    ///
    /// ```no_run
    /// # fn example(ctx: &wasm_worker_sdk::JobContext) {
    /// use wasm_worker_sdk::LlmUsage;
    /// ctx.usage().llm("openai", "gpt-5", LlmUsage { input_tokens: 120, output_tokens: 30, ..Default::default() });
    /// # }
    /// ```
    pub fn llm(&self, provider: &str, model: &str, used: LlmUsage) {
        let LlmUsage { input_tokens, input_cached_tokens, output_tokens } = used;
        self.add(
            "llm",
            provider,
            model,
            &[
                ("input_tokens", count(input_tokens)),
                ("input_cached_tokens", count(input_cached_tokens)),
                ("output_tokens", count(output_tokens)),
            ],
        );
    }

    /// Counts recognised speech.
    ///
    /// ```no_run
    /// # fn example(ctx: &wasm_worker_sdk::JobContext) {
    /// use wasm_worker_sdk::SttUsage;
    /// ctx.usage().stt("deepgram", "nova-3", SttUsage { audio_duration: 2.5, ..Default::default() });
    /// # }
    /// ```
    pub fn stt(&self, provider: &str, model: &str, used: SttUsage) {
        let SttUsage { audio_duration, input_tokens, output_tokens } = used;
        self.add(
            "stt",
            provider,
            model,
            &[
                ("audio_duration", audio_duration),
                ("input_tokens", count(input_tokens)),
                ("output_tokens", count(output_tokens)),
            ],
        );
    }

    /// Counts synthesised speech.
    ///
    /// ```no_run
    /// # fn example(ctx: &wasm_worker_sdk::JobContext) {
    /// use wasm_worker_sdk::TtsUsage;
    /// ctx.usage().tts("cartesia", "sonic-3", TtsUsage { characters_count: 80, audio_duration: 4.0 });
    /// # }
    /// ```
    pub fn tts(&self, provider: &str, model: &str, used: TtsUsage) {
        let TtsUsage { characters_count, audio_duration } = used;
        let counters = [("characters_count", count(characters_count)), ("audio_duration", audio_duration)];
        self.add("tts", provider, model, &counters);
    }

    /// Counts any other usage, under names chosen by the agent. Amounts that the host cannot count appear as a warning in
    /// the log.
    ///
    /// ```no_run
    /// # fn example(ctx: &wasm_worker_sdk::JobContext) {
    /// ctx.usage().add("search", "example", "web", &[("requests", 1.0)]);
    /// # }
    /// ```
    pub fn add(&self, kind: &str, provider: &str, model: &str, counters: &[(&str, f64)]) {
        usage::add(&ModelUsage {
            kind: kind.into(),
            provider: provider.into(),
            model: model.into(),
            counters: counters.iter().map(|(name, amount)| ((*name).into(), *amount)).collect(),
        });
    }

    /// The sums of this job so far.
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

/// The contract counts in `f64`, which is exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "no job uses 2^53 tokens")]
fn count(amount: u64) -> f64 {
    amount as f64
}

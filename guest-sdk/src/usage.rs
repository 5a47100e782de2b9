//! What models used, summed by the host into the job's record.

use crate::bindings::wasm_worker::agent::usage;
use crate::types::ModelUsage;

/// Adds up usage per provider and model. The sums live in the host, so they survive a crash of the agent.
#[derive(Clone, Copy, Debug)]
pub struct UsageCollector;

/// What one call of a language model used, under LiveKit's names.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LlmUsage {
    /// Tokens sent to the model.
    pub input_tokens: u64,
    /// Those of them that the provider had cached.
    pub input_cached_tokens: u64,
    /// Tokens that came back.
    pub output_tokens: u64,
}

/// What recognising speech used, under LiveKit's names.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SttUsage {
    /// Seconds of audio.
    pub audio_duration: f64,
    /// Tokens, for models that count them.
    pub input_tokens: u64,
    /// Tokens, for models that count them.
    pub output_tokens: u64,
}

/// What speaking used, under LiveKit's names.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TtsUsage {
    /// Characters of text.
    pub characters_count: u64,
    /// Seconds of audio.
    pub audio_duration: f64,
}

impl UsageCollector {
    /// Count one call of a language model.
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

    /// Count recognised speech.
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

    /// Count spoken text.
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

    /// Count anything else, under names of your own.
    ///
    /// ```no_run
    /// # fn example(ctx: &wasm_worker_sdk::JobContext) {
    /// ctx.usage().add("search", "example", "web", &[("requests", 1.0)]);
    /// # }
    /// ```
    pub fn add(&self, kind: &str, provider: &str, model: &str, counters: &[(&str, f64)]) {
        let added = usage::add(&ModelUsage {
            kind: kind.into(),
            provider: provider.into(),
            model: model.into(),
            counters: counters.iter().map(|(name, amount)| ((*name).into(), *amount)).collect(),
        });
        if let Err(error) = added {
            log::warn!("usage of `{model}` not counted: {error}");
        }
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

/// The contract counts in `f64`, exact to 2^53.
#[expect(clippy::cast_precision_loss, reason = "no job uses 2^53 tokens")]
fn count(amount: u64) -> f64 {
    amount as f64
}

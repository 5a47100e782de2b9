//! Prewarm and compute: an 8 MiB table built once, looked up in every job, and the job's own bill at the end.
//!
//! `wasm-worker run examples/usage --job` starts from the snapshot; with `--prewarm pool` each job's instance builds the
//! table itself, which its record shows under `prewarm`.

use std::time::Duration;

use wasm_worker_sdk::types::{LlmUsage, TtsUsage};
use wasm_worker_sdk::{Agent, JobContext, Result, random, time::sleep};

const ENTRIES: usize = 1 << 20;
const LOOKUPS: usize = 50_000;

/// The table is part of the snapshot, so it must hold nothing that differs between jobs.
#[derive(Default)]
struct Usage {
    table: Vec<u64>,
}

impl Agent for Usage {
    fn prewarm(&mut self) -> Result {
        // SplitMix64, whose output is all of 64 bits for each index.
        self.table = (0..ENTRIES as u64).map(mix).collect();
        log::info!("prewarm: a table of {} MiB", self.table.len() * size_of::<u64>() >> 20);
        Ok(())
    }

    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.add_shutdown_callback({
            let ctx = ctx.clone();
            async move |reason| log_summary(&ctx, &reason)
        });
        let before = ctx.budget().fuel.used;
        let mut index = random::u64();
        for _ in 0..LOOKUPS {
            index = self.table[index as usize % ENTRIES];
        }
        let spent = ctx.budget().fuel.used - before;
        log::info!("{LOOKUPS} lookups, the last found {index:016x}, took {spent} fuel");
        ctx.usage().llm(LlmUsage {
            provider: "example".into(),
            model: "table".into(),
            input_tokens: 20,
            input_cached_tokens: 5,
            output_tokens: 8,
        });
        ctx.usage().tts(TtsUsage {
            provider: "example".into(),
            model: "voice".into(),
            characters_count: 120,
            audio_duration_ms: 4_000,
            input_tokens: 0,
            output_tokens: 0,
        });
        sleep(Duration::from_millis(5)).await;
        Ok(())
    }
}

fn log_summary(ctx: &JobContext, reason: &str) {
    let budget = ctx.budget();
    log::info!(
        "{reason}: {} fuel, {} ms of CPU, {} ms in all, {} bytes of memory",
        budget.fuel.used,
        budget.cpu_ms,
        budget.time_ms.used,
        budget.memory_bytes.used,
    );
    for model in ctx.usage().summary() {
        log::info!("{model:?}");
    }
}

fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

wasm_worker_sdk::agent!(Usage);

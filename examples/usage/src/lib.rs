//! Prewarm and compute usage: a table of 8 MiB is built once and read in every job, and each job logs what it used.
//!
//! `wasm-worker run examples/usage --job` starts the job from the snapshot. With `--prewarm pool` the instance of each
//! job builds the table; its record shows the cost under `prewarm`.

use std::time::Duration;

use wasm_worker_sdk::{Agent, JobContext, LlmUsage, Result, TtsUsage, random, time::sleep};

const ENTRIES: u32 = 2 << 20;
const LOOKUPS: usize = 50_000;

/// The table becomes part of the snapshot, so its content must be the same for all jobs.
#[derive(Default)]
struct Usage {
    table: Vec<u32>,
}

impl Agent for Usage {
    fn prewarm(&mut self) -> Result {
        self.table = (0..ENTRIES).map(mix).collect();
        log::info!("prewarm: a table of {} MiB", (self.table.len() * size_of::<u32>()) >> 20);
        Ok(())
    }

    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.add_shutdown_callback({
            let ctx = ctx.clone();
            async move |reason| log_summary(&ctx, &reason)
        });
        let before = ctx.budget().fuel.used;
        let [a, b, c, d] = random::bytes(4).try_into().map_err(|_| "the host did not return four bytes")?;
        let mut index = u32::from_le_bytes([a, b, c, d]);
        for _ in 0..LOOKUPS {
            let found = self.table.get((index % ENTRIES) as usize);
            index = *found.ok_or("the table is not prewarmed")?;
        }
        let spent = ctx.budget().fuel.used - before;
        log::info!("{LOOKUPS} lookups, the last found {index:08x}, took {spent} fuel");
        let spoken = TtsUsage { characters_count: 120, audio_duration: 4.0 };
        ctx.usage().tts("example", "voice", spoken);
        let asked = LlmUsage { input_tokens: 20, input_cached_tokens: 5, output_tokens: 8 };
        ctx.usage().llm("example", "table", asked);
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

/// Mixes all 32 bits of an index: the finalizer of MurmurHash3.
fn mix(index: u32) -> u32 {
    let mut h = index ^ 0x9e37_79b9;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

wasm_worker_sdk::agent!(Usage);

//! Looks for what an earlier job may have left in its memory, and leaves something behind for the next.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use wasm_worker_sdk::{Agent, JobContext, Result};

const BYTES: usize = 3 << 20;
static ZEROS: [AtomicU8; BYTES] = [const { AtomicU8::new(0) }; BYTES];
static ONES: [AtomicU8; 64 << 10] = [const { AtomicU8::new(1) }; 64 << 10];

#[derive(Default)]
struct Residue;

impl Agent for Residue {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        let found = ZEROS.iter().filter(|byte| byte.load(Relaxed) != 0).count()
            + ONES.iter().filter(|byte| byte.load(Relaxed) != 1).count();
        ZEROS.iter().chain(&ONES).for_each(|byte| byte.store(0xaa, Relaxed));
        ctx.send_text("found", &found.to_string())
    }
}

wasm_worker_sdk::agent!(Residue);

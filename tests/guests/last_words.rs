//! Prints why it is about to crash, as the runtimes of other languages do, and traps without a report.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct LastWords;

impl Agent for LastWords {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        eprintln!("panic: the table is upside down");
        eprintln!("goroutine 1 [running]:");
        trap_at_last()
    }
}

#[inline(never)]
fn trap_at_last() -> Result {
    std::process::abort()
}

wasm_worker_sdk::agent!(LastWords);

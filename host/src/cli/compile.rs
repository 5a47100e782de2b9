//! `wasm-worker compile`, which this program calls itself: see [`wasm_worker_sandbox::agent::compile`].

use clap::Args;

use super::{Exit, say};
use wasm_worker_sandbox::agent::compile::{NOT_COMPILED, ServeError, Task, serve};

#[derive(Args)]
pub(crate) struct CompileArgs {
    job_memory_bytes: usize,
    stack_bytes: usize,
    memory_bytes: usize,
    cpu_seconds: u64,
}

pub(crate) fn run(args: &CompileArgs) -> Exit {
    const { assert!(Exit::Agent as u8 == NOT_COMPILED) };
    let &CompileArgs { job_memory_bytes, stack_bytes, memory_bytes, cpu_seconds } = args;
    match serve(Task { job_memory_bytes, stack_bytes, memory_bytes, cpu_seconds }) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            say(&error.to_string());
            if matches!(error, ServeError::Component(_)) { Exit::Agent } else { Exit::Host }
        }
    }
}

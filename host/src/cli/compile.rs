//! `wasm-worker compile`, which this program calls itself: see [`wasm_worker_sandbox::agent::compile`].

use clap::Args;

use super::{Exit, say};
use wasm_worker_sandbox::agent::compile::{Bounds, NOT_COMPILED, serve};
use wasm_worker_sandbox::agent::tasks::{Task, TaskError};

#[derive(Args)]
pub(crate) struct CompileArgs {
    #[arg(value_parser = task)]
    task: Task,
    job_memory_bytes: usize,
    stack_bytes: usize,
    memory_bytes: usize,
    cpu_seconds: u64,
}

fn task(name: &str) -> Result<Task, String> {
    Task::ALL.into_iter().find(|task| task.as_str() == name).ok_or_else(|| "no such task".into())
}

pub(crate) fn run(args: &CompileArgs) -> Exit {
    const { assert!(Exit::Agent as u8 == NOT_COMPILED) };
    let &CompileArgs { task, job_memory_bytes, stack_bytes, memory_bytes, cpu_seconds } = args;
    match serve(task, Bounds { job_memory_bytes, stack_bytes, memory_bytes, cpu_seconds }) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            say(&error.to_string());
            if matches!(error, TaskError::Component(_)) { Exit::Agent } else { Exit::Host }
        }
    }
}

//! A job's description, and the job that comes of it.

use std::sync::OnceLock;

use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::job::spec::JobSpec;

use crate::core_guest;
use crate::worker::worker;

/// Longer scripts are read, and not played.
const SCRIPT_MS_MAX: u64 = 20;

/// Joins the room, and waits until nothing comes any more.
const READER: &str = r#"
(import "wasm-worker:agent/room@0.1.0" "connect" (func $connect (result i32)))
(global $joins (mut i32) (i32.const 0))
(func (export "resume") (param f64 i32 i32)
  (if (i32.eqz (global.get $joins)) (then (global.set $joins (call $connect)))))
"#;

/// Read it, and play it to an agent that listens.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(spec) = JobSpec::parse(text) else { return };
    let script_ms: u64 = spec.inbox.iter().map(|event| u64::from(event.after_ms)).sum();
    if script_ms <= SCRIPT_MS_MAX {
        static AGENT: OnceLock<Agent> = OnceLock::new();
        let agent = AGENT.get_or_init(|| worker().load(core_guest::component(READER)));
        let closed = worker().one_job(agent, spec).expect("it accepts every offer");
        assert!(closed.job.starts_with("AJ_"));
    }
}

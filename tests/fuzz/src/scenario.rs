//! A file of scenarios, and the plays that come of it.

use std::sync::OnceLock;

use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::scenario::Scenario;

use crate::core_guest;
use crate::worker::worker;

/// Scenarios of a file that are played.
const PLAYED_MAX: usize = 4;

/// Joins the room, and wakes up every minute.
const LISTENER: &str = r#"
(import "wasm-worker:agent/room@0.1.0" "connect" (func $connect (result i32)))
(import "wasm-worker:agent/job@0.1.0" "wake" (func $wake (param i32 i32)))
(global $joins (mut i32) (i32.const 0))
(func (export "resume") (param f64 i32 i32)
  (if (i32.eqz (global.get $joins)) (then (global.set $joins (call $connect))))
  (call $wake (i32.const 1) (i32.const 60000)))
"#;

/// Read it, and play it with an agent that listens.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut no_files = |_: &str, _: usize| Err("there is none".to_owned());
    let scenarios = match Scenario::parse("f.yaml", text, &mut no_files) {
        Ok(scenarios) => scenarios,
        Err(error) => {
            assert!(error.line > 0 && !error.why.is_empty(), "{error:?}");
            return;
        }
    };
    static AGENT: OnceLock<Agent> = OnceLock::new();
    let agent = AGENT.get_or_init(|| worker().load(core_guest::component(LISTENER)));
    for scenario in scenarios.iter().take(PLAYED_MAX) {
        let Some(outcome) = worker().play(agent, scenario) else { continue };
        assert!(outcome.failure.is_some() || outcome.record.is_some(), "{outcome:?}");
    }
}

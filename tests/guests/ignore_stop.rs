//! Hears that it should stop, and goes on; in its room, if the job says `connect`. It does without the SDK's executor, which would
//! end it.

use wasm_worker_sdk::bindings::wasm_worker::agent::events::Event;
use wasm_worker_sdk::bindings::wasm_worker::agent::job::wake;
use wasm_worker_sdk::bindings::wasm_worker::agent::log::{Level, write};
use wasm_worker_sdk::bindings::wasm_worker::agent::room;
use wasm_worker_sdk::bindings::{Guest, export_agent};
use wasm_worker_sdk::types::{Decision, JobInfo};

struct IgnoreStop;

impl Guest for IgnoreStop {
    fn prewarm() -> Result<(), String> {
        Ok(())
    }

    fn decide(_: JobInfo) -> Decision {
        Decision::accept()
    }

    fn resume(_: f64, batch: Vec<Event>) {
        for event in batch {
            match event {
                Event::Started(job) if job.metadata == "connect" => drop(room::connect()),
                Event::ShutdownRequested(request) => {
                    let line = format!("asked to stop within {} ms, which is not convenient", request.grace_ms);
                    write(Level::Info, &line, &[]);
                }
                _ => {}
            }
        }
        wake(Some(5));
    }
}

export_agent!(IgnoreStop with_types_in wasm_worker_sdk::bindings);

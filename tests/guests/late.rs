//! Sets its timer fifty times to a tenth of a second, and says how many microseconds each step came late.

use std::cell::RefCell;

use wasm_worker_sdk::bindings::wasm_worker::agent::events::Event;
use wasm_worker_sdk::bindings::wasm_worker::agent::{job, room};
use wasm_worker_sdk::bindings::{Guest, export_agent};
use wasm_worker_sdk::types::{Decision, JobInfo, SendOptions};

const PAUSE_MS: u32 = 100;
const STEPS: usize = 50;

thread_local! {
    static LATE: RefCell<(f64, Vec<String>)> = RefCell::default();
}

struct Late;

impl Guest for Late {
    fn prewarm() -> Result<(), String> {
        Ok(())
    }

    fn decide(_: JobInfo) -> Decision {
        Decision::accept()
    }

    fn resume(now_ms: f64, batch: Vec<Event>) {
        LATE.with_borrow_mut(|(due, late)| {
            match &batch[..] {
                [] => late.push(format!("{:.0}", (now_ms - *due) * 1_000.0)),
                [Event::Started(_)] => _ = room::connect(),
                // The join; the timer stays set.
                _ => return,
            }
            if late.len() == STEPS {
                room::send_text("late", &late.join(" "), &SendOptions::default());
                return job::finish(Ok(()));
            }
            *due = now_ms + f64::from(PAUSE_MS);
            job::wake(Some(PAUSE_MS));
        });
    }
}

export_agent!(Late with_types_in wasm_worker_sdk::bindings);

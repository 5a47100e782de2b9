//! What a user passes as an agent: any bytes, and components with some bytes changed.

use wasm_worker_sandbox::job::spec::JobSpec;

use crate::worker::worker;

/// Load them, and where they are an agent, run a job of it.
pub fn run(bytes: &[u8]) {
    worker().whole_job(bytes.to_vec(), JobSpec::default(), None);
}

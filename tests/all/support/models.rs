//! The stand-in for models, as a process.

use std::io::{BufRead, BufReader};

use super::harness::{Started, wasm_worker};

/// `wasm-worker mock-models`. It ends when this is dropped.
pub(crate) struct Models {
    process: Option<Started>,
    /// The base URL for SDKs.
    pub(crate) url: String,
}

impl Models {
    pub(crate) fn start(args: &[&str]) -> Self {
        let call = wasm_worker(["mock-models", "--listen", "127.0.0.1:0"]).args(args.iter().copied());
        let mut process = call.start();
        let mut line = String::new();
        BufReader::new(process.take_stdout()).read_line(&mut line).unwrap();
        if line.is_empty() {
            panic!("the stand-in does not start: {}", process.done().stderr);
        }
        Self { process: Some(process), url: line.trim().to_owned() }
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }
}

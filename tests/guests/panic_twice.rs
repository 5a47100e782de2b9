//! Panics while it says why it panics.

use std::fmt::{self, Display, Formatter};

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct PanicTwice;

struct Words;

impl Display for Words {
    fn fmt(&self, _: &mut Formatter) -> fmt::Result {
        panic!("no words for it")
    }
}

impl Agent for PanicTwice {
    async fn entrypoint(&mut self, _: &JobContext) -> Result {
        panic!("{Words}")
    }
}

wasm_worker_sdk::agent!(PanicTwice);

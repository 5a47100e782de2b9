//! Tests of agents for [wasm-worker](https://github.com/wasm-worker/wasm-worker), to be run by `cargo test`.
//!
//! A test plays a conversation with the agent of the crate, under virtual time and a seed. Ten minutes of conversation take some
//! milliseconds, and every run of a test is the same.
//!
//! ```no_run
//! use wasm_worker_test::{Agent, Conversation, contains};
//!
//! #[test]
//! fn scenarios_pass() {
//!     Agent::of_this_crate().passes(["tests/hello.yaml"]);
//! }
//!
//! #[test]
//! fn greets() {
//!     Conversation::new()
//!         .join("ann")
//!         .say("ann", "hello")
//!         .expect_text(contains("hello"))
//!         .leave("ann")
//!         .expect_end("completed")
//!         .passes(&Agent::of_this_crate());
//! }
//! ```
//!
//! The program `wasm-worker` builds the agent and plays the conversation. It is found by the variable `WASM_WORKER`, or in
//! `PATH`.

#![warn(missing_docs)]

mod agent;
mod conversation;

pub use agent::{Agent, Played};
pub use conversation::{Conversation, Text, contains, equals, matches};

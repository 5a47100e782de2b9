//! Helpers that the tests share.

use std::env::var_os;

pub(crate) mod harness;
pub(crate) mod scripted_server;
pub(crate) mod dispatcher;
pub(crate) mod hook;
pub(crate) mod network;
pub(crate) mod web;
pub(crate) mod models;
pub(crate) mod toolchains;
pub(crate) mod livekit_server;
pub(crate) mod room_network;
pub(crate) mod people;
pub(crate) mod rooms;
pub(crate) mod own_people;
pub(crate) mod witnesses;
pub(crate) mod interpreters;

/// Set where the machine has everything that the tests need, as `.ci/run` does: a skipped test fails there.
const COMPLETE: &str = "WASM_WORKER_TESTS_COMPLETE";

/// Report that a test, or a part of a test, does not run on this machine, and why.
#[track_caller]
pub(crate) fn skip(test: &str, reason: &str) {
    assert!(var_os(COMPLETE).is_none(), "skipped: `{test}`: {reason}, and {COMPLETE} is set");
    skip_for_the_system(test, reason);
}

/// The same where no package registry can supply what is missing, so that it is no failure anywhere: a LiveKit server
/// (`LIVEKIT_SERVER`), a right that the kernel or the container does not give, a program of the operating system.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn skip_for_the_system(test: &str, reason: &str) {
    println!("skipped: `{test}`: {reason}");
}

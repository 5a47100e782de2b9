//! Helpers that the tests share.

use std::env::var_os;

pub(crate) mod harness;
pub(crate) mod scripted_server;
pub(crate) mod dispatcher;
pub(crate) mod hook;
pub(crate) mod network;

/// Set where the machine has everything that the tests need, as `.ci/run` does: a skipped test fails there.
const COMPLETE: &str = "WASM_WORKER_TESTS_COMPLETE";

/// Report that a test, or a part of a test, does not run on this machine, and why.
///
/// Some skips are exempt and print their line themselves, because no package registry can supply what they need: the tests
/// against a real LiveKit server (`LIVEKIT_SERVER`), the test of a small `vm.max_map_count`, which is the kernel's, and the
/// tests of the container and of the systemd unit, which need namespaces and systemd.
#[track_caller]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn skip(test: &str, reason: &str) {
    assert!(var_os(COMPLETE).is_none(), "skipped: `{test}`: {reason}, and {COMPLETE} is set");
    println!("skipped: `{test}`: {reason}");
}

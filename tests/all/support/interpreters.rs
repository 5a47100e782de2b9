//! Agents in other languages for the tests: compiled once, in a cache in which no other agents take their place.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::harness::{Call, path, target_dir, wasm_worker};
use super::toolchains::Language;

/// A call about such an agent. A program that is not optimised takes minutes to compile an interpreter.
pub(crate) fn with_interpreters(call: Call) -> Call {
    let cache = target_dir().join("test-interop-cache");
    call.env("WASM_WORKER_COMPILE_TIMEOUT", "1h").env("WASM_WORKER_CACHE_DIR", cache)
}

/// The component of a language's agent, which is compiled in the cache; none where a tool is missing on this machine.
pub(crate) fn agent_in(language: Language) -> Option<PathBuf> {
    static ONE_OF_EACH: [Mutex<()>; 3] = [const { Mutex::new(()) }; 3];
    let component = language.agent()?;
    let _guard = ONE_OF_EACH[language as usize].lock().unwrap_or_else(PoisonError::into_inner);
    let prepared = with_interpreters(wasm_worker(["prepare", path(&component)])).done();
    assert_eq!(prepared.exit, 0, "{}", prepared.stderr);
    Some(component)
}

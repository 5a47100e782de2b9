//! Requests about a track of the agent, under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wasm_worker_fuzz::room_playout::run(bytes));

//! Messages of a server on the link of a room, under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wasm_worker_fuzz::room_signals::run(bytes));

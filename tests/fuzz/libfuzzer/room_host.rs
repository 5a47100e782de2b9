//! Clients of a hosted room, under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wasm_worker_fuzz::room_host::run(bytes));

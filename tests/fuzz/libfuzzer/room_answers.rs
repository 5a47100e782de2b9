//! Answers, addresses and datagrams of a server, under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wasm_worker_fuzz::room_answers::run(bytes));

;; Keeps one more handle in each step.
(import "wasm-worker:agent/job@0.1.0" "wake" (func $wake (param i32 i32)))
(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
(func (export "resume") (param f64 i32 i32)
  (drop (call $timer (i64.const 0)))
  (call $wake (i32.const 1) (i32.const 0)))

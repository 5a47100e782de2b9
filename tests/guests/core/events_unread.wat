;; Takes no event, however many it is given, and has itself woken every millisecond.
(import "wasm-worker:agent/room@0.1.0" "connect" (func $connect (result i32)))
(import "wasm-worker:agent/job@0.1.0" "wake" (func $wake (param i32 i32)))
(func (export "resume") (param f64 i32 i32)
  (drop (call $connect))
  (call $wake (i32.const 1) (i32.const 1)))

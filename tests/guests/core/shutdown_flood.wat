;; Asks for its end in each step, and goes on.
(import "wasm-worker:agent/job@0.1.0" "shutdown" (func $shutdown (param i32 i32)))
(import "wasm-worker:agent/job@0.1.0" "wake" (func $wake (param i32 i32)))
(func (export "resume") (param f64 i32 i32)
  (call $shutdown (i32.const 0) (i32.const 16))
  (call $wake (i32.const 1) (i32.const 0)))

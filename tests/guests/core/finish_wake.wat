;; Ends well, asks to be woken all the same, and would trap in a second step.
(import "wasm-worker:agent/job@0.1.0" "wake" (func $wake (param i32 i32)))
(global $steps (mut i32) (i32.const 0))
(func (export "resume") (param f64 i32 i32)
  (if (global.get $steps) (then unreachable))
  (global.set $steps (i32.const 1))
  (call $wake (i32.const 1) (i32.const 0))
  (call $ok))

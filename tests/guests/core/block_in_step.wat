;; Waits in a step.
(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
(import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
(func (export "resume") (param f64 i32 i32)
  (call $block (call $timer (i64.const 1000000)))
  (call $ok))

;; Waits in a step for the first of two timers.
(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
(import "wasi:io/poll@0.2.12" "poll" (func $poll (param i32 i32 i32)))
(func (export "resume") (param f64 i32 i32)
  (i32.store (i32.const 2048) (call $timer (i64.const 1000000)))
  (i32.store (i32.const 2052) (call $timer (i64.const 60000000000)))
  (call $poll (i32.const 2048) (i32.const 2) (i32.const 1024))
  (call $ok))

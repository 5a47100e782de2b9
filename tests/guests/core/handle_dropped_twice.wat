;; Drops a handle twice.
(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
(import "wasi:io/poll@0.2.12" "[resource-drop]pollable" (func $drop (param i32)))
(func (export "resume") (param f64 i32 i32) (local $handle i32)
  (local.set $handle (call $timer (i64.const 0)))
  (call $drop (local.get $handle))
  (call $drop (local.get $handle))
  (call $ok))

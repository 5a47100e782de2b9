;; Polls the same ready handle a hundred thousand times in one call.
(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
(import "wasi:io/poll@0.2.12" "poll" (func $poll (param i32 i32 i32)))
(memory (export "memory") 32)
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1048576)
(func (export "resume") (param f64 i32 i32) (local $handle i32) (local $at i32)
  (local.set $handle (call $timer (i64.const 0)))
  (local.set $at (i32.const 400000))
  (loop $again
    (local.set $at (i32.sub (local.get $at) (i32.const 4)))
    (i32.store offset=65536 (local.get $at) (local.get $handle))
    (br_if $again (local.get $at)))
  (call $poll (i32.const 65536) (i32.const 100000) (i32.const 1024))
  (call $ok))

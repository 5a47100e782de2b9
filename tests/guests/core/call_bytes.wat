;; Sends a hundred texts of 64 KiB in one step.
(import "wasm-worker:agent/room@0.1.0" "send-text" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(func (export "resume") (param f64 i32 i32) (local $left i32)
  (local.set $left (i32.const 100))
  (loop $again
    (drop (call $send (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 0)))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $again (local.get $left)))
  (call $ok))

;; Sends one text to sixty-five thousand destinations, all of which are the same 64 KiB of its memory: 4 GiB in one call.
(import "wasm-worker:agent/room@0.1.0" "send-text" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(memory (export "memory") 16)
(func (export "resume") (param f64 i32 i32) (local $at i32)
  (local.set $at (i32.const 524288))
  (loop $again
    (local.set $at (i32.sub (local.get $at) (i32.const 8)))
    (i32.store offset=131072 (local.get $at) (i32.const 0))
    (i32.store offset=131076 (local.get $at) (i32.const 65536))
    (br_if $again (local.get $at)))
  (drop (call $send (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 131072) (i32.const 65536)
    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0)))
  (call $ok))

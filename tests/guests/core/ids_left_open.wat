;; Begins a thousand texts in each step, and ends none.
(import "wasm-worker:agent/room@0.1.0" "connect" (func $connect (result i32)))
(import "wasm-worker:agent/room@0.1.0" "open-text" (func $open (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasm-worker:agent/job@0.1.0" "wake" (func $wake (param i32 i32)))
(func (export "resume") (param f64 i32 i32) (local $left i32)
  (drop (call $connect))
  (local.set $left (i32.const 1000))
  (loop $again
    (drop (call $open (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $again (local.get $left)))
  (call $wake (i32.const 1) (i32.const 0)))

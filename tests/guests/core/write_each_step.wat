;; Begins one text, and writes 64 KiB more of it in each step.
(import "wasm-worker:agent/room@0.1.0" "connect" (func $connect (result i32)))
(import "wasm-worker:agent/room@0.1.0" "open-text" (func $open (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasm-worker:agent/room@0.1.0" "write-text" (func $write (param i32 i32 i32)))
(import "wasm-worker:agent/job@0.1.0" "wake" (func $wake (param i32 i32)))
(global $text (mut i32) (i32.const 0))
(func (export "resume") (param f64 i32 i32)
  (if (i32.eqz (global.get $text))
    (then
      (drop (call $connect))
      (global.set $text (call $open (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))))
  (call $write (global.get $text) (i32.const 0) (i32.const 65536))
  (call $wake (i32.const 1) (i32.const 0)))

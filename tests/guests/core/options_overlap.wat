;; Sends a text whose topic, text, destinations and other options all lie over each other.
(import "wasm-worker:agent/room@0.1.0" "send-text" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(func (export "resume") (param f64 i32 i32)
  (drop (call $send (i32.const 0) (i32.const 512) (i32.const 0) (i32.const 512) (i32.const 0) (i32.const 64)
    (i32.const 0) (i32.const 64) (i32.const 0) (i32.const 512) (i32.const 0) (i32.const 512) (i32.const 0) (i32.const 512)
    (i32.const 1)))
  (call $ok))

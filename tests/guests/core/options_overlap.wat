;; Sends a text whose topic, text and destinations all lie over each other.
(import "wasm-worker:agent/room@0.1.0" "send-text" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
(func (export "entrypoint") (result i32)
  (call $send (i32.const 0) (i32.const 512) (i32.const 0) (i32.const 512) (i32.const 0) (i32.const 64)
    (i32.const 0) (i32.const 64) (i32.const 2048))
  i32.const 16)

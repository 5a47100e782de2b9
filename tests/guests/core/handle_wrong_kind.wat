;; Uses a timer as its inbox.
(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
(import "wasm-worker:agent/inbox@0.1.0" "open" (func $open (result i32)))
(import "wasm-worker:agent/inbox@0.1.0" "[method]receiver.next" (func $next (param i32 i32 i32)))
(func (export "entrypoint") (result i32)
  (drop (call $open))
  (call $next (call $timer (i64.const 0)) (i32.const 1000) (i32.const 1024))
  i32.const 16)

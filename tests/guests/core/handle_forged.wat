;; Uses a number as a handle that it was never given.
(import "wasm-worker:agent/inbox@0.1.0" "[method]receiver.next" (func $next (param i32 i32 i32)))
(func (export "entrypoint") (result i32)
  (call $next (i32.const 12345) (i32.const 1000) (i32.const 1024))
  i32.const 16)

;; Waits for an event that does not come, for seven weeks at a time.
(import "wasm-worker:agent/inbox@0.1.0" "open" (func $open (result i32)))
(import "wasm-worker:agent/inbox@0.1.0" "[method]receiver.next" (func $next (param i32 i32 i32)))
(func (export "entrypoint") (result i32) (local $inbox i32)
  (local.set $inbox (call $open))
  (loop $again
    (call $next (local.get $inbox) (i32.const -1) (i32.const 1024))
    (br $again))
  unreachable)

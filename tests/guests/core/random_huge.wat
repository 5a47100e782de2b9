;; Asks for more randomness in one call than a call may carry.
(import "wasm-worker:agent/job@0.1.0" "random" (func $random (param i32 i32)))
(func (export "resume") (param f64 i32 i32)
  (call $random (i32.const 1073741824) (i32.const 1024))
  (call $ok))

;; Logs at a level that does not exist.
(import "wasm-worker:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))
(func (export "resume") (param f64 i32 i32)
  (call $write (i32.const 77) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (call $ok))

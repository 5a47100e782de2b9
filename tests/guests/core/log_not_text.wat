;; Logs what is not UTF-8.
(import "wasm-worker:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))
(data (i32.const 1024) "\ff\fe\fd")
(func (export "resume") (param f64 i32 i32)
  (call $write (i32.const 2) (i32.const 1024) (i32.const 3) (i32.const 0) (i32.const 0))
  (call $ok))

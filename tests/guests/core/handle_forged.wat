;; Uses a number as a handle that it was never given.
(import "wasi:io/poll@0.2.12" "[method]pollable.ready" (func $ready (param i32) (result i32)))
(func (export "resume") (param f64 i32 i32)
  (drop (call $ready (i32.const 12345)))
  (call $ok))

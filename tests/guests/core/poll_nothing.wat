;; Polls an empty list, which WASI calls an error of the caller.
(import "wasi:io/poll@0.2.12" "poll" (func $poll (param i32 i32 i32)))
(func (export "resume") (param f64 i32 i32) (call $poll (i32.const 0) (i32.const 0) (i32.const 1024))
  (call $ok))

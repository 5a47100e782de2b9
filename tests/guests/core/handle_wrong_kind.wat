;; Uses a timer as its standard output.
(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
(import "wasi:io/streams@0.2.12" "[method]output-stream.check-write" (func $check (param i32 i32)))
(func (export "resume") (param f64 i32 i32)
  (call $check (call $timer (i64.const 0)) (i32.const 1024))
  (call $ok))

;; Prints for ever, and never ends the line.
(import "wasi:cli/stdout@0.2.12" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.12" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
(func (export "resume") (param f64 i32 i32) (local $out i32)
  (local.set $out (call $stdout))
  (memory.fill (i32.const 65536) (i32.const 120) (i32.const 4096))
  (loop $again
    (call $write (local.get $out) (i32.const 65536) (i32.const 4096) (i32.const 1024))
    (br $again))
  unreachable)

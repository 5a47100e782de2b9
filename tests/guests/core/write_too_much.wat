;; Writes more at once than the stream says it takes.
(import "wasi:cli/stdout@0.2.12" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.12" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
(memory (export "memory") 8)
(func (export "resume") (param f64 i32 i32)
  (call $write (call $stdout) (i32.const 65536) (i32.const 400000) (i32.const 1024))
  (call $ok))

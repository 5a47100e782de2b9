;; Fails with ten million words.
(memory (export "memory") 200)
(func (export "resume") (param f64 i32 i32)
  (memory.fill (i32.const 65536) (i32.const 120) (i32.const 10485760))
  (call $finish (i32.const 1) (i32.const 65536) (i32.const 10485760)))

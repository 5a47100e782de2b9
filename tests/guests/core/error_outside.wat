;; Fails with words that lie outside its memory.
(func (export "resume") (param f64 i32 i32) (call $finish (i32.const 1) (i32.const 65536) (i32.const -1)))

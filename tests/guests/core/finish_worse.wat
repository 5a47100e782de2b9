;; Ends badly, and then well.
(data (i32.const 1024) "the first end counts")
(func (export "resume") (param f64 i32 i32)
  (call $finish (i32.const 1) (i32.const 1024) (i32.const 20))
  (call $ok))

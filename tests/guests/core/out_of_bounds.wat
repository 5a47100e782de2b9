;; Reads past the end of its memory.
(func (export "resume") (param f64 i32 i32) (i32.store (i32.const 64) (i32.load (i32.const -4))))

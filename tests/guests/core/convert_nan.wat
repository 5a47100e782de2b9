;; Makes an integer of what is no number.
(func (export "resume") (param f64 i32 i32) (i32.store (i32.const 64) (i32.trunc_f64_s (f64.const nan))))

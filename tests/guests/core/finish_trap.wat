;; Ends well, and traps in the same step.
(func (export "resume") (param f64 i32 i32)
  (call $ok)
  unreachable)

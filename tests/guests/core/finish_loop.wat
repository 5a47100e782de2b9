;; Ends well, and runs on for ever in the same step.
(func (export "resume") (param f64 i32 i32)
  (call $ok)
  (loop $again (br $again)))

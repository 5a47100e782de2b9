;; Calls what is not in its table.
(type $nothing (func))
(table 1 funcref)
(func (export "resume") (param f64 i32 i32) (call_indirect (type $nothing) (i32.const 0))
  (call $ok))

;; Calls a function as if it took nothing and gave nothing.
(type $nothing (func))
(func $takes (param i32))
(table 1 funcref)
(elem (i32.const 0) $takes)
(func (export "resume") (param f64 i32 i32) (call_indirect (type $nothing) (i32.const 0))
  (call $ok))

;; Fills its table, again and again, with one instruction each time.
(table $t 20000 funcref)
(func (export "resume") (param f64 i32 i32)
  (loop $again (table.fill $t (i32.const 0) (ref.null func) (i32.const 20000)) (br $again))
  unreachable)

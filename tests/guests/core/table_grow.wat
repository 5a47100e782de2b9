;; Lets its table grow for as long as it can, and traps when it cannot.
(table $t 1 funcref)
(func (export "resume") (param f64 i32 i32)
  (loop $again
    (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
  unreachable)

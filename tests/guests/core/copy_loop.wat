;; Copies thirty mebibytes, again and again, with one instruction each time.
(memory (export "memory") 1000)
(func (export "resume") (param f64 i32 i32)
  (loop $again (memory.copy (i32.const 31457280) (i32.const 0) (i32.const 31457280)) (br $again))
  unreachable)

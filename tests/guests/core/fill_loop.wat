;; Fills sixty mebibytes, again and again, with one instruction each time.
(memory (export "memory") 1000)
(func (export "resume") (param f64 i32 i32)
  (loop $again (memory.fill (i32.const 0) (i32.const 7) (i32.const 62914560)) (br $again))
  unreachable)

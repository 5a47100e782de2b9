;; Fills half of its table in `prewarm`, and traps.
(func (export "prewarm") (result i32)
  (memory.fill (i32.const 65536) (i32.const 7) (i32.const 32768))
  unreachable)

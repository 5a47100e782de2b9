;; Takes one more page of memory, for ever.
(func (export "entrypoint") (result i32)
  (loop $again (drop (memory.grow (i32.const 1))) (br $again))
  unreachable)

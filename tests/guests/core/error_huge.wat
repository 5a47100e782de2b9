;; Fails with ten million words.
(memory (export "memory") 200)
(func (export "entrypoint") (result i32)
  (memory.fill (i32.const 65536) (i32.const 120) (i32.const 10485760))
  (i32.store8 (i32.const 1024) (i32.const 1))
  (i32.store (i32.const 1028) (i32.const 65536))
  (i32.store (i32.const 1032) (i32.const 10485760))
  i32.const 1024)

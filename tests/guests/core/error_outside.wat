;; Fails with words that lie outside its memory.
(func (export "entrypoint") (result i32)
  (i32.store8 (i32.const 1024) (i32.const 1))
  (i32.store (i32.const 1028) (i32.const 65536))
  (i32.store (i32.const 1032) (i32.const -1))
  i32.const 1024)

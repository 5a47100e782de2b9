;; Fails without a word.
(func (export "entrypoint") (result i32)
  (i32.store8 (i32.const 1024) (i32.const 1))
  i32.const 1024)

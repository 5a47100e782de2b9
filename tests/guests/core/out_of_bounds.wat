;; Reads past the end of its memory.
(func (export "entrypoint") (result i32) (i32.load (i32.const -4)))

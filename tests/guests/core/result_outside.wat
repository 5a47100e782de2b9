;; Returns a result from its prewarm that lies outside its memory.
(func (export "prewarm") (result i32) i32.const -4)

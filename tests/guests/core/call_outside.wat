;; Calls past the end of its table.
(type $nothing (func))
(table 1 funcref)
(func (export "entrypoint") (result i32) (call_indirect (type $nothing) (i32.const 7)) i32.const 16)

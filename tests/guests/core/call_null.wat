;; Calls what is not in its table.
(type $nothing (func))
(table 1 funcref)
(func (export "entrypoint") (result i32) (call_indirect (type $nothing) (i32.const 0)) i32.const 16)

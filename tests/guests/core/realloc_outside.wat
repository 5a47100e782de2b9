;; Gives the host room that lies outside its memory.
(global $lies (mut i32) (i32.const 0))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (select (i32.const -8) (i32.const 65536) (global.get $lies)))
(func (export "decide") (param i32) (result i32)
  (global.set $lies (i32.const 1))
  i32.const 16)

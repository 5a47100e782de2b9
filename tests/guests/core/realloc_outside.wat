;; Gives the host room that lies outside its memory.
(import "wasm-worker:agent/job@0.1.0" "get-info" (func $get_info (param i32)))
(global $lies (mut i32) (i32.const 0))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (select (i32.const -8) (i32.const 65536) (global.get $lies)))
(func (export "entrypoint") (result i32)
  (global.set $lies (i32.const 1))
  (call $get_info (i32.const 1024))
  i32.const 16)

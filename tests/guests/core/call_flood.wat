;; Makes a million calls in one step.
(import "wasm-worker:agent/flow@0.1.0" "cancel" (func $cancel (param i32)))
(func (export "resume") (param f64 i32 i32) (local $left i32)
  (local.set $left (i32.const 1000000))
  (loop $again
    (call $cancel (local.get $left))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $again (local.get $left)))
  (call $ok))

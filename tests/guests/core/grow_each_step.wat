;; Takes one more MiB of memory in each step.
(import "wasm-worker:agent/job@0.1.0" "wake" (func $wake (param i32 i32)))
(func (export "resume") (param f64 i32 i32)
  (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
  (call $wake (i32.const 1) (i32.const 0)))

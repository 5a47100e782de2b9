;; Reports sixty-five thousand tasks, all of which have the same 64 KiB of its memory as their name.
(import "wasm-worker:agent/job@0.1.0" "report-tasks" (func $report (param i32 i32)))
(memory (export "memory") 24)
(func (export "resume") (param f64 i32 i32) (local $at i32)
  (local.set $at (i32.const 1048576))
  (loop $again
    (local.set $at (i32.sub (local.get $at) (i32.const 16)))
    (i32.store offset=131072 (local.get $at) (i32.const 0))
    (i32.store offset=131076 (local.get $at) (i32.const 65536))
    (br_if $again (local.get $at)))
  (call $report (i32.const 131072) (i32.const 65536))
  (call $ok))

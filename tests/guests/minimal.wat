;; The smallest agent there can be, by hand: it accepts every offer, and ends well in its first step.
(component
  ;; TYPES
  (import "wasm-worker:agent/job@0.1.0" (instance $job
    (export "finish" (func (param "outcome" (result (error string)))))))

  ;; What the host passes in goes to the second page, one call after another; nothing is given back.
  (core module $memory
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      global.get $next
      (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $bytes))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $finish (canon lower (func $job "finish") (memory $bytes)))

  (core module $code
    (import "job" "finish" (func $finish (param i32 i32 i32)))
    ;; The first page is all zeros: read as a result it is `ok`, as a decision `accept` with nothing in it.
    (func (export "ok") (result i32) i32.const 16)
    (func (export "accept") (param i32) (result i32) i32.const 16)
    (func (export "resume") (param f64 i32 i32) (call $finish (i32.const 0) (i32.const 0) (i32.const 0))))
  (core instance $code (instantiate $code (with "job" (instance (export "finish" (func $finish))))))

  (func $prewarm (result (result (error string)))
    (canon lift (core func $code "ok") (memory $bytes)))
  (func $decide (param "offer" $job-info) (result $decision)
    (canon lift (core func $code "accept") (memory $bytes) (realloc $realloc)))
  (func $resume (param "now-ms" f64) (param "batch" (list $event))
    (canon lift (core func $code "resume") (memory $bytes) (realloc $realloc)))

  (export "prewarm" (func $prewarm))
  (export "decide" (func $decide))
  (export "resume" (func $resume)))

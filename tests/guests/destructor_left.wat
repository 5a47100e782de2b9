;; Ends with resources of its own left open, each with a destructor that runs for ever. Nobody is to run it for them.
(component
  ;; TYPES
  (import "wasm-worker:agent/job@0.1.0" (instance $job
    (export "finish" (func (param "outcome" (result (error string)))))))

  ;; The type wants its destructor first, and the code wants the type, so the destructor is a module of its own.
  (core module $destructor (func (export "run") (param i32) (loop $again (br $again))))
  (core instance $destructor (instantiate $destructor))
  (type $thing (resource (rep i32) (dtor (core func $destructor "run"))))
  (core func $new (canon resource.new $thing))

  (core module $memory
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $bytes))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $finish (canon lower (func $job "finish") (memory $bytes)))

  (core module $code
    (import "outside" "new" (func $new (param i32) (result i32)))
    (import "outside" "finish" (func $finish (param i32 i32 i32)))
    (func (export "resume") (param f64 i32 i32) (local $left i32)
      (local.set $left (i32.const 100))
      (loop $again
        (drop (call $new (local.get $left)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $again (local.get $left)))
      (call $finish (i32.const 0) (i32.const 0) (i32.const 0)))
    (func (export "ok") (result i32) i32.const 16)
    (func (export "accept") (param i32) (result i32) i32.const 16))
  (core instance $code (instantiate $code
    (with "outside" (instance (export "new" (func $new)) (export "finish" (func $finish))))))

  (func $prewarm (result (result (error string)))
    (canon lift (core func $code "ok") (memory $bytes)))
  (func $decide (param "offer" $job-info) (result $decision)
    (canon lift (core func $code "accept") (memory $bytes) (realloc $realloc)))
  (func $resume (param "now-ms" f64) (param "batch" (list $event))
    (canon lift (core func $code "resume") (memory $bytes) (realloc $realloc)))

  (export "prewarm" (func $prewarm))
  (export "decide" (func $decide))
  (export "resume" (func $resume)))

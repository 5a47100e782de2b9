;; Drops a resource of its own, whose destructor runs for ever.
(component
  ;; TYPES

  ;; The type wants its destructor first, and the code wants the type, so the destructor is a module of its own.
  (core module $destructor (func (export "run") (param i32) (loop $again (br $again))))
  (core instance $destructor (instantiate $destructor))
  (type $thing (resource (rep i32) (dtor (core func $destructor "run"))))
  (core func $new (canon resource.new $thing))
  (core func $drop (canon resource.drop $thing))

  (core module $memory
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $bytes))
  (alias core export $memory "realloc" (core func $realloc))

  (core module $code
    (import "outside" "new" (func $new (param i32) (result i32)))
    (import "outside" "drop" (func $drop (param i32)))
    (func (export "resume") (param f64 i32 i32) (call $drop (call $new (i32.const 1))))
    (func (export "ok") (result i32) i32.const 16)
    (func (export "accept") (param i32) (result i32) i32.const 16))
  (core instance $code (instantiate $code
    (with "outside" (instance (export "new" (func $new)) (export "drop" (func $drop))))))

  (func $prewarm (result (result (error string)))
    (canon lift (core func $code "ok") (memory $bytes)))
  (func $decide (param "offer" $job-info) (result $decision)
    (canon lift (core func $code "accept") (memory $bytes) (realloc $realloc)))
  (func $resume (param "now-ms" f64) (param "batch" (list $event))
    (canon lift (core func $code "resume") (memory $bytes) (realloc $realloc)))

  (export "prewarm" (func $prewarm))
  (export "decide" (func $decide))
  (export "resume" (func $resume)))

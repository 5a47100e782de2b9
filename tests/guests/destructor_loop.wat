;; Drops a resource of its own, whose destructor runs for ever.
(component
  (import "wasm-worker:agent/types@0.1.0" (instance $types
    (type $kind-of-job (enum "room" "publisher" "participant"))
    (export "job-kind" (type $job-kind (eq $kind-of-job)))
    (type $a-room (record (field "sid" string) (field "name" string) (field "metadata" string)))
    (export "room-info" (type $room-info (eq $a-room)))
    (type $pairs (list (tuple string string)))
    (export "attributes" (type $attributes (eq $pairs)))
    (type $kind-of-participant (enum "standard" "ingress" "egress" "sip" "agent" "connector" "other"))
    (export "participant-kind" (type $participant-kind (eq $kind-of-participant)))
    (type $a-participant (record
      (field "sid" string) (field "identity" string) (field "name" string) (field "metadata" string)
      (field "attributes" $attributes) (field "kind" $participant-kind)))
    (export "participant" (type $participant (eq $a-participant)))
    (type $a-job (record
      (field "id" string) (field "dispatch-id" string) (field "kind" $job-kind) (field "room" $room-info)
      (field "participant" (option $participant)) (field "metadata" string) (field "attributes" $attributes)
      (field "agent-name" string) (field "attempt" u32)))
    (export "job-info" (type (eq $a-job)))
    (type $an-acceptance (record
      (field "identity" (option string)) (field "name" string) (field "metadata" string)
      (field "attributes" $attributes)))
    (export "acceptance" (type $acceptance (eq $an-acceptance)))
    (type $a-rejection (record (field "reason" string) (field "terminate" bool)))
    (export "rejection" (type $rejection (eq $a-rejection)))
    (type $a-decision (variant (case "accept" $acceptance) (case "reject" $rejection)))
    (export "decision" (type (eq $a-decision)))))
  (alias export $types "job-info" (type $job-info))
  (alias export $types "decision" (type $decision))

  ;; The type wants its destructor first, and the code wants the type, so the destructor is a module of its own.
  (core module $destructor (func (export "run") (param i32) (loop $again (br $again))))
  (core instance $destructor (instantiate $destructor))
  (type $thing (resource (rep i32) (dtor (core func $destructor "run"))))
  (core func $new (canon resource.new $thing))
  (core func $drop (canon resource.drop $thing))

  (core module $code
    (import "thing" "new" (func $new (param i32) (result i32)))
    (import "thing" "drop" (func $drop (param i32)))
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "entrypoint") (result i32)
      (call $drop (call $new (i32.const 1)))
      i32.const 16)
    (func (export "ok") (result i32) i32.const 16)
    (func (export "accept") (param i32) (result i32) i32.const 16)
    (func (export "shutdown") (param i32 i32)))
  (core instance $code (instantiate $code
    (with "thing" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (alias core export $code "memory" (core memory $memory))
  (alias core export $code "realloc" (core func $realloc))

  (func $prewarm (result (result (error string)))
    (canon lift (core func $code "ok") (memory $memory)))
  (func $decide (param "offer" $job-info) (result $decision)
    (canon lift (core func $code "accept") (memory $memory) (realloc $realloc)))
  (func $entrypoint (result (result (error string)))
    (canon lift (core func $code "entrypoint") (memory $memory)))
  (func $shutdown (param "reason" string)
    (canon lift (core func $code "shutdown") (memory $memory) (realloc $realloc)))

  (export "prewarm" (func $prewarm))
  (export "decide" (func $decide))
  (export "entrypoint" (func $entrypoint))
  (export "shutdown" (func $shutdown)))

;; The smallest agent there can be, by hand: it accepts every offer and does nothing.
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

  (core module $code
    (memory (export "memory") 2)
    ;; What the host passes in goes to the second page, one call after another; nothing is given back.
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      global.get $next
      (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8)))))
    ;; The first page is all zeros: read as a result it is `ok`, as a decision `accept` with nothing in it.
    (func (export "ok") (result i32) i32.const 16)
    (func (export "accept") (param i32) (result i32) i32.const 16)
    (func (export "shutdown") (param i32 i32)))
  (core instance $code (instantiate $code))
  (alias core export $code "memory" (core memory $memory))
  (alias core export $code "realloc" (core func $realloc))

  (func $call (result (result (error string)))
    (canon lift (core func $code "ok") (memory $memory)))
  (func $decide (param "offer" $job-info) (result $decision)
    (canon lift (core func $code "accept") (memory $memory) (realloc $realloc)))
  (func $shutdown (param "reason" string)
    (canon lift (core func $code "shutdown") (memory $memory) (realloc $realloc)))

  (export "prewarm" (func $call))
  (export "decide" (func $decide))
  (export "entrypoint" (func $call))
  (export "shutdown" (func $shutdown)))

;; Traps before anything of it can be called.
(func $trap unreachable)
(start $trap)

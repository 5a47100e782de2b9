;; Runs for ever before anything of it can be called.
(func $for_ever (loop $again (br $again)))
(start $for_ever)

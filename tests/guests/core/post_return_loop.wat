;; Returns from its step, and then runs for ever where it is to clean up behind it.
(func (export "cabi_post_resume") (loop $again (br $again)))

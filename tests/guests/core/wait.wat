;; Takes no event, sets no timer, and returns: nothing can wake it.
(func (export "resume") (param f64 i32 i32))

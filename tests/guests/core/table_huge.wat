;; Wants a table of ten million elements to begin with.
(table 10000000 funcref)

"""`trio-sse top`: the console in a terminal. `model` has no I/O; `view` is the only one that draws."""

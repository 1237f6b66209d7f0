"""The targets, one in a file: `check` raises if its promise is broken; `seeds` yields what to begin with."""

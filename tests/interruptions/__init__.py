"""Everything that can be interrupted, interrupted everywhere; see `docs/reliability.md`.

A scenario says what a server runs and what its client does. Each is run on every host and log that it suits,
and interrupted at every step, every operation on its connections and every call of users' code, one after the
other. After each, nothing may be left, and the scenario must work again.
"""

from . import scheduling  # noqa: F401  # before anything imports Trio

"""Trio's own choices, repeated by a seed.

In each turn of its loop, Trio runs the tasks that can run in one of two orders, by chance. Import this
module before Trio: it keeps the generator of that chance, which Trio makes when it is imported, so that it
can be seeded. Trio keeps some tasks in sets, such as those that a cancellation wakes: no seed repeats their
order.
"""

from __future__ import annotations

import random
import sys

_generators: list[random.Random] = []


class _Kept(random.Random):
    """A generator that can be seeded although its owner keeps it private."""

    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        _generators.append(self)


def _import_trio() -> None:
    if "trio" in sys.modules:
        return  # as in a test, where pytest-trio has imported it: the choices are not repeated
    original = random.Random
    random.Random = _Kept  # type: ignore[assignment, misc]
    try:
        import trio  # noqa: F401
    finally:
        random.Random = original  # type: ignore[misc]


_import_trio()


def seed_scheduler(seed: int) -> None:
    """Repeat the choices of a run of this seed."""
    for generator in _generators:
        generator.seed(seed)

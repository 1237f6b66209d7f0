"""The inputs that are kept: a file for each target, with a `bytes` literal in each line."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

FOLDER = Path(__file__).parent / "corpus"
TARGETS = Path(__file__).parent / "targets"

#: Larger inputs than this are not kept, nor tried: what they show, smaller ones show.
LARGEST = 2048


class Target(Protocol):
    """The module of a target."""

    def check(self, data: bytes) -> None:
        """Raise what shows that the promise is broken for this input."""

    def seeds(self) -> Iterable[bytes]:
        """Return inputs from which fuzzing begins."""


def names() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.stem for path in TARGETS.glob("[a-z]*.py"))


def load(name: str) -> Target:
    """Return a target."""
    return cast("Target", import_module(f"tests.fuzz.targets.{name}"))


def read(name: str) -> Iterator[bytes]:
    """Yield the inputs that are kept for a target."""
    path = FOLDER / f"{name}.txt"
    for line in path.read_text("ascii").splitlines() if path.exists() else ():
        yield ast.literal_eval(line)


def write(name: str, inputs: Iterable[bytes]) -> int:
    """Keep inputs, the shortest first; return how many."""
    kept = sorted(set(inputs), key=lambda data: (len(data), data))
    (FOLDER / f"{name}.txt").write_text("".join(f"{data!r}\n" for data in kept), "ascii")
    return len(kept)

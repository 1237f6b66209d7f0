"""The functions that another node can go on with, by their names."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from typing import Any, NamedTuple, final

from .._validate import check_bounds
from .._wire.json_text import compact_json

Function = Callable[..., Awaitable[object]]


class Resumable(NamedTuple):
    """A function, and how many nodes may try a run of it."""

    name: str
    function: Function
    attempts: int


@final
class ResumableFunctions:
    """The resumable functions of a program."""

    def __init__(self) -> None:
        self._by_name: dict[str, Resumable] = {}
        self._by_function: dict[Function, Resumable] = {}

    @property
    def names(self) -> Collection[str]:
        """Their names."""
        return self._by_name.keys()

    def add(self, function: Function, name: str | None, attempts: int) -> None:
        """Add a function; raises `TypeError` or `ValueError`."""
        check_bounds(1, max_attempts=attempts)
        name = name or getattr(function, "__qualname__", None)
        if not isinstance(name, str):
            raise TypeError(f"{function!r} has no name: pass one")
        if name in self._by_name:
            raise ValueError(f"there is a resumable function {name!r} already: pass another name")
        self._by_name[name] = self._by_function[function] = Resumable(name, function, attempts)

    def add_wrapper(self, function: Function, wrapper: Function, name: str) -> None:
        """Add what calls a function, under a further name, if the function is resumable."""
        if (known := self.find(function)) is not None:
            self.add(wrapper, f"{known.name} ({name})", known.attempts)

    def find(self, function: Function) -> Resumable | None:
        """Return what is known of a function, if it is resumable."""
        try:
            return self._by_function.get(function)
        except TypeError:  # it has no hash
            return None

    def named(self, name: str) -> Resumable:
        """Return the function with this name."""
        return self._by_name[name]


def encode_arguments(arguments: tuple[Any, ...]) -> str:
    """Return arguments as JSON; raises `TypeError` if they would not come back as they are."""
    try:
        text = compact_json(arguments)
        is_same = json.loads(text) == list(arguments)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the arguments of a resumable function must be JSON values: {error}") from error
    if not is_same:
        raise TypeError("the arguments of a resumable function must be JSON values: lists, not tuples")
    return text


def decode_arguments(text: str) -> list[Any]:
    """Return the arguments again."""
    arguments: list[Any] = json.loads(text)
    return arguments

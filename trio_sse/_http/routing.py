"""Routing: finding the destination of a path and a method, with parameters typed by the pattern."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar, final

from .path_pattern import PathPattern, has_dot_segment

_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE"))

#: The parameters of a path that has none; all connections share it.
NO_PARAMETERS: Mapping[str, object] = MappingProxyType({})

Destination = TypeVar("Destination")


class Match(NamedTuple, Generic[Destination]):
    """The result of routing a path that exists.

    Attributes:
        destination: `None` if the path does not support the method.
        parameters: the path's parameters, converted.
        methods: without a destination, the methods that the path supports.
    """

    destination: Destination | None
    parameters: Mapping[str, object]
    methods: tuple[str, ...]

    @property
    def allow(self) -> str:
        """The methods, in the form of the `Allow` field."""
        with_head = [both for one in self.methods for both in ((one, "HEAD") if one == "GET" else (one,))]
        return ", ".join([*with_head, "OPTIONS"])


@final
class _Pattern(Generic[Destination]):
    """A path pattern, and its destinations by method."""

    def __init__(self, path: str) -> None:
        self._pattern = PathPattern(path)
        self.converters = self._pattern.converters
        self.destinations: dict[str, Destination] = {}

    def parameters(self, path: str) -> Mapping[str, object] | None:
        """Return the converted parameters of a path; `None` if it does not match."""
        return self._pattern.parameters(path) or (None if self.converters else NO_PARAMETERS)


@final
class Router(Generic[Destination]):
    """Finds destinations. The first pattern that matches the path and has the method wins.

    Paths without parameters are tried first, then patterns in the order in which they were added.
    """

    def __init__(self) -> None:
        self._exact: dict[str, _Pattern[Destination]] = {}
        self._matches: dict[tuple[str, str], Match[Destination]] = {}  # of a path in `_exact` and a method
        self._patterns: dict[str, _Pattern[Destination]] = {}

    def add(
        self, path: str, methods: Iterable[str], destination: Destination, handler: Callable[..., object]
    ) -> None:
        """Add a destination.

        Args:
            handler: is checked, and not called: it must be a coroutine function that takes the parameters.

        Raises:
            ValueError: the path or a method is not acceptable, or already has a destination.
            TypeError: the handler is not acceptable.
        """
        checked = tuple(dict.fromkeys(method.upper() for method in methods))
        if not checked or not _METHODS.issuperset(checked):
            raise ValueError(f"methods must be among {', '.join(sorted(_METHODS))}, not {checked}")
        if has_dot_segment(path):
            raise ValueError(
                f"a path must not have the segments '.' and '..', which clients remove: {path!r}"
            )
        pattern = self._exact.get(path) or self._patterns.get(path) or _Pattern(path)
        if inspect.isasyncgenfunction(handler):
            raise TypeError(f"the handler of {path!r} must be a coroutine function: send, do not yield")
        try:
            inspect.signature(handler).bind(None, **dict.fromkeys(pattern.converters))
        except TypeError as error:
            names = ", ".join(["the connection or request", *pattern.converters])
            raise TypeError(f"the handler of {path!r} must take {names}: {error}") from None
        for method in checked:
            if method in pattern.destinations:
                raise ValueError(f"{method} {path} already has a handler")
        pattern.destinations.update(dict.fromkeys(checked, destination))
        if pattern.converters:
            self._patterns[path] = pattern
        else:
            self._exact[path] = pattern
            for method in checked:
                self._matches[path, method] = Match(destination, NO_PARAMETERS, ())

    def find(self, path: str, method: str) -> Match[Destination] | None:
        """Return the match of a method and of what `routed_path` returns; `None` if no pattern matches."""
        match = self._matches.get((path, method))
        if match is not None:
            return match
        exact = self._exact.get(path)
        methods: dict[str, None] = {}
        for pattern in self._patterns.values() if exact is None else (exact, *self._patterns.values()):
            parameters = pattern.parameters(path)
            if parameters is None:
                continue
            if method in pattern.destinations:
                return Match(pattern.destinations[method], parameters, ())
            methods.update(dict.fromkeys(pattern.destinations))
        return Match(None, NO_PARAMETERS, tuple(methods)) if methods else None

"""Routes: which handler a path and method lead to, with parameters typed by the pattern."""

from __future__ import annotations

import inspect
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar, final

# Each type's pattern lets through only what its conversion takes: a path that doesn't fit is a 404.
_TYPES: dict[str, tuple[str, Callable[[str], object]]] = {
    "str": (r"[^/]+", str),
    "int": (r"-?[0-9]{1,18}", int),
    "float": (r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?", float),
    "uuid": (r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", uuid.UUID),
    "path": (r".+", str),
}
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")
_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE"))

#: What a path without parameters has: one for all, rather than one for each connection.
NO_PARAMETERS: Mapping[str, object] = MappingProxyType({})

Target = TypeVar("Target")


class Match(NamedTuple, Generic[Target]):
    """What a path and method lead to.

    Attributes:
        target: `None` if the path is there, but not for this method.
        parameters: the path's, converted.
        methods: where there is no target, those that the path is there for.
    """

    target: Target | None
    parameters: Mapping[str, object]
    methods: tuple[str, ...]

    @property
    def allow(self) -> str:
        """The methods, for the `Allow` field."""
        with_head = [both for one in self.methods for both in ((one, "HEAD") if one == "GET" else (one,))]
        return ", ".join([*with_head, "OPTIONS"])


@final
class _Pattern(Generic[Target]):
    """A path as it was given, and its targets by method."""

    def __init__(self, path: str) -> None:
        self.expression, self.converters = _compile(path)
        self.targets: dict[str, Target] = {}

    def parameters(self, path: str) -> Mapping[str, object] | None:
        """Convert the parameters of a path that fits."""
        match = self.expression.fullmatch(path)
        if match is None:
            return None
        if not self.converters:
            return NO_PARAMETERS
        return {name: convert(match[name]) for name, convert in self.converters.items()}


@final
class Router(Generic[Target]):
    """Finds targets. Of all patterns that fit, the first that has the method counts.

    Paths without parameters come first, then patterns as they were added.
    """

    def __init__(self) -> None:
        self._exact: dict[str, _Pattern[Target]] = {}
        self._patterns: dict[str, _Pattern[Target]] = {}

    def add(self, path: str, methods: Iterable[str], target: Target, handler: Callable[..., object]) -> None:
        """Add a target; `handler` is only looked at, for whether it takes the path's parameters.

        Raises:
            ValueError: the path or a method is not acceptable, or is taken.
            TypeError: the handler doesn't take the parameters.
        """
        checked = tuple(dict.fromkeys(method.upper() for method in methods))
        if not checked or not _METHODS.issuperset(checked):
            raise ValueError(f"methods must be some of {', '.join(sorted(_METHODS))}, not {checked}")
        pattern = self._exact.get(path) or self._patterns.get(path) or _Pattern(path)
        if inspect.isasyncgenfunction(handler):
            raise TypeError(f"the handler of {path!r} must be a coroutine function: send, and don't yield")
        try:
            inspect.signature(handler).bind(None, **dict.fromkeys(pattern.converters))
        except TypeError as error:
            names = ", ".join(["the connection or request", *pattern.converters])
            raise TypeError(f"the handler of {path!r} must take {names}: {error}") from None
        for method in checked:
            if method in pattern.targets:
                raise ValueError(f"{method} {path} has a handler already")
        pattern.targets.update(dict.fromkeys(checked, target))
        (self._patterns if pattern.converters else self._exact)[path] = pattern

    def find(self, path: str, method: str) -> Match[Target] | None:
        """Give what `path`, decoded, and `method` lead to; `None` if there is no such path."""
        methods: dict[str, None] = {}
        exact = self._exact.get(path)
        for pattern in self._patterns.values() if exact is None else (exact, *self._patterns.values()):
            parameters = pattern.parameters(path)
            if parameters is None:
                continue
            if method in pattern.targets:
                return Match(pattern.targets[method], parameters, ())
            methods.update(dict.fromkeys(pattern.targets))
        return Match(None, NO_PARAMETERS, tuple(methods)) if methods else None


def _compile(path: str) -> tuple[re.Pattern[str], dict[str, Callable[[str], object]]]:
    if not path.startswith("/"):
        raise ValueError(f"a path must begin with '/': {path!r}")
    if set("{}") & set(_PARAMETER.sub("", path)):
        raise ValueError(f"a parameter is like {{name}} or {{name:int}}: {path!r}")
    converters: dict[str, Callable[[str], object]] = {}
    pattern = ""
    position = 0
    for parameter in _PARAMETER.finditer(path):
        name, kind = parameter[1], parameter[2] or "str"
        if kind not in _TYPES:
            raise ValueError(f"parameters are of type {', '.join(_TYPES)}, not {kind}: {path!r}")
        if name in converters:
            raise ValueError(f"parameter {name!r} occurs twice in {path!r}")
        expression, converters[name] = _TYPES[kind]
        pattern += re.escape(path[position : parameter.start()]) + f"(?P<{name}>{expression})"
        position = parameter.end()
    return re.compile(pattern + re.escape(path[position:])), converters

"""Routes: which handler a path and method lead to, with parameters typed by the pattern."""

from __future__ import annotations

import inspect
import re
import uuid
from collections.abc import Callable, Iterable
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

Target = TypeVar("Target")


class Match(NamedTuple, Generic[Target]):
    """What a path leads to: the targets by method, and the path's parameters."""

    targets: dict[str, Target]
    parameters: dict[str, object]

    @property
    def allow(self) -> str:
        """The methods allowed, for the `Allow` field."""
        methods = [*self.targets, "OPTIONS"]
        if "GET" in self.targets:
            methods.insert(1, "HEAD")
        return ", ".join(methods)


@final
class Router(Generic[Target]):
    """Finds targets by path. Paths without parameters come first, then patterns as they were added."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, Target]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], dict[str, Callable[[str], object]]]] = {}
        self._targets: dict[str, dict[str, Target]] = {}

    def add(self, path: str, methods: Iterable[str], target: Target, handler: Callable[..., object]) -> None:
        """Add a target; `handler` is only looked at, for whether it takes the path's parameters.

        Raises:
            ValueError: the path or a method is not acceptable, or is taken.
            TypeError: the handler doesn't take the parameters.
        """
        checked = tuple(dict.fromkeys(method.upper() for method in methods))
        if not checked or not _METHODS.issuperset(checked):
            raise ValueError(f"methods must be some of {', '.join(sorted(_METHODS))}, not {checked}")
        pattern, converters = _compile(path)
        try:
            inspect.signature(handler).bind(None, **dict.fromkeys(converters))
        except TypeError as error:
            names = ", ".join(["the connection or request", *converters])
            raise TypeError(f"the handler of {path!r} must take {names}: {error}") from None
        if converters:
            self._patterns[path] = (pattern, converters)
            targets = self._targets.setdefault(path, {})
        else:
            targets = self._exact.setdefault(path, {})
        for method in checked:
            if method in targets:
                raise ValueError(f"{method} {path} has a handler already")
            targets[method] = target

    def find(self, path: str) -> Match[Target] | None:
        """Give what `path`, decoded, leads to."""
        targets = self._exact.get(path)
        if targets is not None:
            return Match(targets, {})
        for key, (pattern, converters) in self._patterns.items():
            match = pattern.fullmatch(path)
            if match is not None:
                parameters = {name: convert(match[name]) for name, convert in converters.items()}
                return Match(self._targets[key], parameters)
        return None


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

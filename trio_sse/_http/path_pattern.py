"""Path patterns: literal text and typed parameters, matched in time that is linear in the path.

A regular expression that backtracks may take minutes for one path of a few kilobytes, if two parameters share
a segment, as in `/{year}-{month}`, or if two of them may contain slashes. `_Parts` matches such patterns. It
returns what the expression would match, where each parameter is as long as possible, the first one first.

A slash that was sent encoded, as `%2F`, is data and separates nothing (RFC 3986, 2.2 and 3.3). So a path is
split before it is decoded: `ENCODED_SLASH` stands for such a slash until the segments have been matched.

With at most one parameter in a segment, and at most one that may contain slashes, a path has few ways to
match: backtracking fails where the segment ends. So an expression is linear there, and faster.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol, final
from urllib.parse import unquote

#: Stands for an encoded slash. UTF-8 cannot encode it, so no decoded path has it.
ENCODED_SLASH = "\ud800"

_ENCODED = re.compile("%2f", re.IGNORECASE)
_DOT_SEGMENT = re.compile(r"/\.\.?(?:/|$)")


def routed_path(target: str) -> str:
    """Return the path of a target as `PathPattern` takes it. It has been checked, so it can be decoded."""
    return ENCODED_SLASH.join(map(unquote, _ENCODED.split(target.partition("?")[0])))


def has_dot_segment(path: str) -> bool:
    """Return whether a decoded path has a segment `.` or `..`.

    Clients resolve and remove them (RFC 3986, 5.2.4; WHATWG URL, 4.4), encoded ones included. Who sends one
    has something in mind that the path's prefix does not show.
    """
    return _DOT_SEGMENT.search(path) is not None


def _with_slashes(text: str) -> str:
    return text.replace(ENCODED_SLASH, "/")


# The expression of each type matches only what its conversion accepts: any other path is not found.
_TYPES: dict[str, tuple[str, Callable[[str], object]]] = {
    "str": (r"[^/]+", _with_slashes),
    "int": (r"-?[0-9]{1,18}", int),
    "float": (r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?", float),
    "uuid": (r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", uuid.UUID),
    "path": (r".+", _with_slashes),
}
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")


class _Part(NamedTuple):
    """A piece of a pattern: a parameter, or literal text, which has no name."""

    text: str
    name: str = ""
    kind: str = ""


class _Matcher(Protocol):
    def __call__(self, path: str) -> Mapping[str, str] | None:
        """Return the parameters of a path as text; `None` if it does not match."""


@final
class PathPattern:
    """A pattern of paths.

    Attributes:
        converters: what converts the text of each parameter.

    Raises:
        ValueError: the pattern is not acceptable.
    """

    def __init__(self, pattern: str) -> None:
        parts = tuple(_parse(pattern))
        self.converters = {part.name: _TYPES[part.kind][1] for part in parts if part.name}
        self._match: _Matcher = _Expression(parts) if _matches_in_one_way(parts) else _Parts(parts)

    def parameters(self, path: str) -> dict[str, object] | None:
        """Return the converted parameters of what `routed_path` returns; `None` if it does not match."""
        match = self._match(path)
        if match is None:
            return None
        return {name: convert(match[name]) for name, convert in self.converters.items()}


def _parse(pattern: str) -> Iterator[_Part]:
    if not pattern.startswith("/"):
        raise ValueError(f"a path must begin with '/': {pattern!r}")
    if set("{}") & set(_PARAMETER.sub("", pattern)):
        raise ValueError(f"a parameter must be like {{name}} or {{name:int}}: {pattern!r}")
    names: set[str] = set()
    position = 0
    for parameter in _PARAMETER.finditer(pattern):
        name, kind = parameter[1], parameter[2] or "str"
        if kind not in _TYPES:
            raise ValueError(
                f"a parameter's type must be one of {', '.join(_TYPES)}, not {kind}: {pattern!r}"
            )
        if name in names:
            raise ValueError(f"parameter {name!r} occurs twice in {pattern!r}")
        names.add(name)
        if literal := pattern[position : parameter.start()]:
            yield _Part(literal)
        yield _Part(parameter[0], name, kind)
        position = parameter.end()
    if literal := pattern[position:]:
        yield _Part(literal)


def _matches_in_one_way(parts: tuple[_Part, ...]) -> bool:
    """Whether no segment has two parameters, and only one parameter may have several segments."""
    in_segment = of_path = 0
    for part in parts:
        if part.name:
            in_segment += 1
            of_path += part.kind == "path"
            if in_segment > 1 or of_path > 1:
                return False
        elif "/" in part.text:
            in_segment = 0
    return True


@final
class _Expression:
    """Matches a pattern of which backtracking tries little."""

    def __init__(self, parts: tuple[_Part, ...]) -> None:
        self._fullmatch = re.compile(
            "".join(
                f"(?P<{part.name}>{_TYPES[part.kind][0]})" if part.name else re.escape(part.text)
                for part in parts
            )
        ).fullmatch

    def __call__(self, path: str) -> Mapping[str, str] | None:
        match = self._fullmatch(path)
        return None if match is None else match.groupdict()


@final
class _Parts:
    """Matches any pattern.

    First it marks, from the last part to the first, at which positions of the path the rest of the pattern
    can match. Then it takes the parts from the first to the last, each as long as the marks allow.
    """

    def __init__(self, parts: tuple[_Part, ...]) -> None:
        self._parts = parts
        self._expressions = {kind: re.compile(expression) for kind, (expression, _) in _TYPES.items()}

    def __call__(self, path: str) -> Mapping[str, str] | None:
        if not path.startswith(self._parts[0].text):
            return None
        marks = [bytearray(len(path)) + b"\1"]
        for part in reversed(self._parts):
            marks.append(self._mark(part, path, marks[-1]))
            if 1 not in marks[-1]:
                return None
        marks.reverse()
        if not marks[0][0]:
            return None
        found: dict[str, str] = {}
        start = 0
        for part, ends in zip(self._parts, marks[1:], strict=True):
            end = self._end(part, path, start, ends)
            if part.name:
                found[part.name] = path[start:end]
            start = end
        return found

    def _mark(self, part: _Part, path: str, ends: bytearray) -> bytearray:
        """Return the positions, as ones, where the part can start so that it ends at one of `ends`."""
        starts = bytearray(len(ends))
        if not part.name:
            start = path.find(part.text)
            while start != -1:
                starts[start] = ends[start + len(part.text)]
                start = path.find(part.text, start + 1)
        elif part.kind in ("str", "path"):
            stop = "/" if part.kind == "str" else "\n"  # which a dot of an expression does not match
            is_reached = 0
            for start in range(len(path) - 1, -1, -1):
                is_reached = 0 if path[start] == stop else is_reached | ends[start + 1]
                starts[start] = is_reached
        else:
            for start in range(len(path)):
                starts[start] = self._end(part, path, start, ends) != -1
        return starts

    def _end(self, part: _Part, path: str, start: int, ends: bytearray) -> int:
        """Return the last of `ends` that a part can reach from a position; -1 if there is none."""
        if not part.name:
            return start + len(part.text)
        if part.kind in ("str", "path"):
            stop = path.find("/" if part.kind == "str" else "\n", start)
            return ends.rfind(1, start + 1, len(ends) if stop == -1 else stop + 1)
        expression = self._expressions[part.kind]
        longest = expression.match(path, start)
        if longest is None:
            return -1
        candidates = (end for end in range(longest.end(), start, -1) if ends[end])
        return next((end for end in candidates if expression.fullmatch(path, start, end)), -1)

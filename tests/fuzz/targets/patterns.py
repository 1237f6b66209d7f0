"""Patterns of paths and topics: they match what slow and simple references do."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trio_sse._http.exceptions import HTTPException
from trio_sse._http.path_pattern import PathPattern, has_dot_segment, routed_path
from trio_sse._http.request_head import decode_path
from trio_sse._wire.topic_pattern import compile_topic_pattern

from ..source import Source

_EXPRESSIONS = {
    "str": r"[^/]+",
    "int": r"-?[0-9]{1,18}",
    "float": r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?",
    "uuid": r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "path": r".+",
}
_KINDS = (*_EXPRESSIONS, "", "", "/", "-", ".")
_PATH_PIECES = (
    "/",
    "-",
    ".",
    "a",
    "1",
    "23",
    "%2F",
    "%2f",
    "%C3%A4",
    "..",
    "12345678-1234-5678-1234-567812345678",
)

# The references try all ways to match, so paths are short.
_LONGEST = 60
_MOST_PARAMETERS = 4


def seeds() -> Iterator[bytes]:
    for pattern in ("/{a}-{b}", "/{a:int}{b:path}/x", "/a.{kind}", "/{a:uuid}/{b:float}"):
        yield pattern.encode() + b"\0/x-y/12"
    yield bytes((0, 6, 7, 1, 3, 1, 2, 5, 3, 0, 1, 2, 3, 4, 5, 6))
    yield bytes((1, 5)) + b"a*b*ca-b-c"
    yield b"\1\x0f*a*a*a*a*a*a*aaaaaaaaaaaaaab"
    yield b"\x01\x05a*b*ca\x03\x01:\x02\n-b-c"


def check(data: bytes) -> None:
    source = Source(data)
    if source.number(2):
        _check_topics(source)
        return
    pattern, expression = _pattern(source)
    target = "/" + "".join(
        source.choice((*_PATH_PIECES, chr(source.number(256)))) for _ in range(source.number(9))
    )
    try:
        path = decode_path(target)
    except HTTPException:
        return
    routed = routed_path(target)
    assert routed.replace("\ud800", "/") == path
    assert has_dot_segment(path) == any(segment in (".", "..") for segment in path.split("/")[1:])
    expected = re.fullmatch(expression, routed) if len(routed) <= _LONGEST else None
    made = PathPattern(pattern)
    found = made.parameters(routed)
    if len(routed) > _LONGEST:
        return
    if expected is None:
        assert found is None
    else:
        assert found == {name: made.converters[name](text) for name, text in expected.groupdict().items()}


def _pattern(source: Source) -> tuple[str, str]:
    """Return a pattern, and the expression that means the same."""
    pattern = expression = "/"
    count = 0
    for number in range(source.number(8)):
        kind = source.choice(_KINDS)
        if kind in _EXPRESSIONS and count < _MOST_PARAMETERS:
            pattern += f"{{p{number}:{kind}}}"
            expression += f"(?P<p{number}>{_EXPRESSIONS[kind]})"
            count += 1
        elif kind not in _EXPRESSIONS:
            text = kind or chr(32 + source.number(95)).translate({ord("{"): "a", ord("}"): "b"})
            pattern += text
            expression += re.escape(text)
    return pattern, expression


def _check_topics(source: Source) -> None:
    pattern = source.piece().decode("latin-1")
    topic = source.rest().decode("latin-1")[:256]
    try:
        compiled = compile_topic_pattern(pattern, "a pattern")
    except ValueError:
        return
    assert bool(compiled.fullmatch(topic)) == _matches(pattern, topic), (pattern, topic)


def _matches(pattern: str, topic: str) -> bool:
    """Whether a pattern matches, by all places that each of its characters can lead to."""
    places = {0}
    for character in pattern:
        if character == "*":
            places = set(range(min(places), len(topic) + 1)) if places else places
        else:
            places = {place + 1 for place in places if topic[place : place + 1] == character}
    return len(topic) in places

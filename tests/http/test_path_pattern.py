"""Path patterns: what they match, and that no path makes them slow."""

from __future__ import annotations

import re
import sys
from types import FrameType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trio_sse._http import path_pattern
from trio_sse._http.path_pattern import ENCODED_SLASH, PathPattern, routed_path

from ..support.cases import each_case

EXPRESSIONS = {
    "str": r"[^/]+",
    "int": r"-?[0-9]{1,18}",
    "float": r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?",
    "uuid": r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "path": r".+",
}
PIECES = st.one_of(
    st.sampled_from(["/", "-", ".", "a", "1", "/a", "-1"]), st.sampled_from(sorted(EXPRESSIONS))
)
PATHS = st.lists(
    st.sampled_from(["/", "-", ".", "a", "b", "1", "23", "/a", "12345678-1234-5678-1234-567812345678"]),
    max_size=9,
).map(lambda parts: "/" + "".join(parts))


def build(pieces: list[str]) -> tuple[str, str]:
    """Return a pattern, and the expression that means the same."""
    pattern, expression = "/", "/"
    for number, piece in enumerate(pieces):
        if piece in EXPRESSIONS:
            pattern += f"{{p{number}:{piece}}}"
            expression += f"(?P<p{number}>{EXPRESSIONS[piece]})"
        else:
            pattern += piece
            expression += re.escape(piece)
    return pattern, expression


@given(pieces=st.lists(PIECES, max_size=5), path=PATHS)
def test_patterns_match_as_expressions_would(pieces: list[str], path: str) -> None:
    pattern, expression = build(pieces)
    made = PathPattern(pattern)
    expected = re.fullmatch(expression, path)

    found = made.parameters(path)

    if expected is None:
        assert found is None
    else:
        texts = expected.groupdict().items()
        assert found == {name: made.converters[name](text) for name, text in texts}


@each_case(
    ("pattern", "path", "parameters"),
    [
        ("/{a}-{b}", "/x-y-z", {"a": "x-y", "b": "z"}),
        ("/{a}-{b}", "/--", None),
        ("/{a}-{b}", "/---", {"a": "-", "b": "-"}),
        ("/{year:int}-{month:int}/{rest:path}", "/2024-05/a/b", {"year": 2024, "month": 5, "rest": "a/b"}),
        ("/{a:int}{b}", "/1234x", {"a": 1234, "b": "x"}),
        ("/{a:int}{b}", "/1234", {"a": 123, "b": "4"}),
        ("/{a}.{kind}", "/a.b.json", {"a": "a.b", "kind": "json"}),
        ("/{a}-{b:path}", "/x-y/z-w", {"a": "x", "b": "y/z-w"}),
        ("/{a:path}/of/{b:path}/end", "/1/of/2/of/3/end", {"a": "1/of/2", "b": "3"}),
        ("/{a:path}/of/{b:path}/end", "/1/of/end", None),
        ("/X{a}", "/Xb", {"a": "b"}),
        ("/{a}-{b}", "/x-y/z", None),
        ("/{a}-{b}", "/x-/", None),
        ("/{a}-{b}/{c}", "/x-y/z", {"a": "x", "b": "y", "c": "z"}),
        ("/{a}{b:path}", "/x/y/z", {"a": "x", "b": "/y/z"}),
        ("/{a}-{b:path}", "/x-y\nz", None),
        ("/{a:path}{b}", "/x\ny", {"a": "x", "b": "\ny"}),
    ],
)
def test_parameters_that_share_a_segment_are_matched(
    pattern: str, path: str, parameters: dict[str, object] | None
) -> None:
    assert PathPattern(pattern).parameters(path) == parameters


@each_case(
    ("target", "path"),
    [
        ("/a%20b?c=/d?e", "/a b"),
        ("/caf%C3%A9/%41", "/café/A"),
        ("/a%2Fb%2fc/d", f"/a{ENCODED_SLASH}b{ENCODED_SLASH}c/d"),
        ("/a%252Fb", "/a%2Fb"),
    ],
)
def test_the_path_of_a_target_is_decoded_but_for_its_slashes(target: str, path: str) -> None:
    assert routed_path(target) == path


@each_case("pattern", ["/{a}/{b}", "/{a:path}/{b}", "/{a}-{b}/{c}"])
def test_an_encoded_slash_separates_nothing_and_is_a_slash_of_a_parameter(pattern: str) -> None:
    path = routed_path("/x%2Fy-z/w")
    found = PathPattern(pattern).parameters(path)

    assert found is not None
    assert str(found["a"]).startswith("x/y")
    assert PathPattern(pattern).parameters(routed_path("/x-y%2Fz")) is None


@each_case(
    ("pattern", "is_expression"),
    [
        ("/{a}/{b}/{c}", True),
        ("/{a}/{b:path}/{c}", True),
        ("/{a:path}", True),
        ("/{a}-{b}", False),
        ("/{a}/{b}-{c}", False),
        ("/{a}-{b:path}", False),
        ("/{a:path}/x/{b:path}", False),
    ],
)
def test_only_a_pattern_that_matches_in_one_way_is_an_expression(pattern: str, is_expression: bool) -> None:
    # An expression could backtrack for minutes, in no line of Python that `count_lines` would count.
    assert isinstance(PathPattern(pattern)._match, path_pattern._Expression) is is_expression


def count_lines(pattern: PathPattern, path: str) -> int:
    """Return how many lines of Python a match executes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += frame.f_code.co_filename == path_pattern.__file__
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        pattern.parameters(path)
    finally:
        sys.settrace(before)
    return count


@each_case(
    ("pattern", "piece"),
    [
        ("/{a}-{b}/end", "-"),
        ("/{a}-{b}-{c}-{d}/end", "-"),
        ("/{a:path}/of/{b:path}/end", "/of/"),
        ("/{a:path}{b:path}{c:path}x", "x/"),
        ("/{a:int}{b:int}{c:int}{d}/end", "1"),
        ("/{a:float}{b:float}{c:path}/{d:float}-{e}/end", "1.1/"),
        ("/{a}{b:uuid}{c}/end", "12345678-1234-5678-1234-567812345678"),
        ("/{a}/{b}-{c:path}/{d}/end", "/-a"),
    ],
)
def test_the_steps_of_a_match_grow_with_the_path_only(pattern: str, piece: str) -> None:
    made = PathPattern(pattern)
    short, long = (f"/{piece * (size // len(piece))}/end" for size in (400, 1600))
    steps = count_lines(made, long)

    assert count_lines(made, short) * 5 >= steps
    assert steps < 1600 * 250


@each_case(
    "pattern", ["/{a}", "/{a}.json/{b:int}", "/{a:path}", "/a/{b:path}/{c}/d", "/{a:path}.x/{b}y/{c:uuid}"]
)
def test_other_patterns_are_expressions(pattern: str) -> None:
    assert count_lines(PathPattern(pattern), "/" + "a" * 4000) < 20

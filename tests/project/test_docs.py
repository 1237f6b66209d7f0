"""The docs agree with the code: limits, end reasons, loggers and files; and links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from trio_sse import EndReason, EventDecoder, Hub, Server
from trio_sse._http import body_decoders, request_head
from trio_sse._http.request_head import APP_LIMITS, LIMITS
from trio_sse._http2.limits import Http2Limits
from trio_sse._hub import revocations
from trio_sse._proxies import forwarded, proxy_protocol
from trio_sse._request import options, request_reader
from trio_sse._stream import disconnects, polling
from trio_sse._wire import event, identity, topic

from ..support.cases import Cases
from ..support.markdown import PAGES, ROOT, anchors, prose
from .test_public_names import LOGGERS

LIMITS_PAGE = (ROOT / "docs" / "limits.md").read_text()

UNITS = {"KiB": 1024, "MiB": 1024**2}


def numbers(text: str) -> list[float]:
    """Return the numbers of a text, sizes in bytes."""
    found = re.findall(r"([0-9][0-9,.]*[0-9]|[0-9])(?:\s(KiB|MiB))?", text)
    return [float(number.replace(",", "")) * UNITS.get(unit, 1) for number, unit in found]


def rows() -> dict[str, str]:
    """Return the tables' rows by their first column: what stands in the second."""
    lines = [re.split(r"\s*\|\s*", line) for line in LIMITS_PAGE.splitlines() if line.startswith("| ")]
    return {cells[1]: cells[2] for cells in lines}


def documented() -> dict[str, float | None]:
    """Return each option that the tables name, with its documented default; `None` stands for none."""
    found: dict[str, float | None] = {}
    for first, second in rows().items():
        names = re.findall(r"`(\w+)`", first)
        if first.startswith("`"):
            defaults: list[float] | list[None] = [None] if second == "none" else numbers(second)
            found.update(zip(names, defaults, strict=True))
    return found


@pytest.mark.parametrize("made", [Server, Hub])
def test_every_limit_that_is_an_option_is_documented_with_its_default(made: Callable[..., object]) -> None:
    stated = documented()
    for name, parameter in inspect.signature(made).parameters.items():
        default = parameter.default
        is_limit = isinstance(default, int | float) and not isinstance(default, bool)
        if is_limit:
            assert stated[name] == pytest.approx(default), name
        elif name in stated:
            assert stated[name] is default is None, name


def test_the_fixed_limits_are_those_of_the_code() -> None:
    table = rows()
    assert numbers(table["bytes sent after the request"]) == [disconnects.MAX_UNREAD_BYTES]
    assert numbers(table["seconds to wait, `?wait=`"]) == [polling._MOST_WAIT_SECONDS]
    assert numbers(table["one response"]) == [polling._MOST_EVENTS, polling._MOST_BYTES]
    assert numbers(table["data of one event, encoded"]) == [event.MAX_DATA_SIZE]
    assert numbers(table["an event's type, id or key, encoded"]) == [event.MAX_NAME_SIZE]
    assert numbers(table["a comment, encoded"]) == [event.MAX_COMMENT_SIZE]
    assert numbers(table["an event that `EventDecoder` receives"]) == [
        inspect.signature(EventDecoder).parameters["max_size"].default
    ]
    assert numbers(table["a topic's name"]) == [topic.MAX_TOPIC_LENGTH]
    assert numbers(table["an identity"]) == [identity.MAX_IDENTITY_LENGTH]
    (remembered,) = [row for name, row in table.items() if name.startswith("revocations")]
    assert numbers(remembered) == [revocations._MOST_REMEMBERED]
    assert numbers(table["topics of one subscription"]) == [topic.MAX_TOPICS]
    assert numbers(table["proxies one behind the other"]) == [forwarded.MAX_HOPS]
    assert numbers(table["a prefix that a proxy has removed"]) == [forwarded.MAX_PREFIX_SIZE]
    assert numbers(
        next(limit for what, limit in table.items() if what.startswith("a header of the [PROXY protocol]"))
    ) == [request_reader.HEAD_SECONDS, proxy_protocol.MAX_HEADER_SIZE]
    assert numbers(table["time of a head"]) == [request_reader.HEAD_SECONDS]
    (head,) = [row for name, row in table.items() if "`max_header_size`" in name]
    assert numbers(head) == [
        number
        for limits in (LIMITS, APP_LIMITS)
        for number in (limits.size, limits.fields, limits.target_size)
    ]
    assert numbers(table["method"]) == [request_head.MAX_METHOD_SIZE]
    assert numbers(table["fields of a query"]) == [request_head.MAX_QUERY_FIELDS]
    assert numbers(table["body (`max_body_size`)"]) == [options.ROUTE_BODY_SIZE, options.APP_BODY_SIZE]
    assert numbers(table["a chunk's head, a body's trailers"]) == [
        body_decoders.MAX_CHUNK_LINE,
        body_decoders.MAX_TRAILERS,
    ]
    assert numbers(table["chunks of a body"]) == [body_decoders.FREE_CHUNKS, body_decoders.BYTES_PER_CHUNK]


def test_the_limits_of_http2_are_those_of_the_code() -> None:
    found = {name: row for what, row in rows().items() for name in re.findall(r"\*(\w+)\*", what)}
    limits, app_limits = Http2Limits.of_heads(LIMITS), Http2Limits.of_heads(APP_LIMITS)
    for name, row in found.items():
        ours, apps = getattr(limits, name), getattr(app_limits, name)
        assert ours in numbers(row), name
        assert (numbers(row) == [ours, apps]) is (ours != apps), name
    assert len(found) == 10
    assert limits == Http2Limits()


def test_every_end_reason_is_documented() -> None:
    concepts = (ROOT / "docs" / "concepts.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", concepts, re.MULTILINE)) == {
        reason.name for reason in EndReason
    }


def test_every_logger_is_documented() -> None:
    logging = (ROOT / "docs" / "logging.md").read_text()
    assert set(re.findall(r"^\| `([\w.]+)` \|", logging, re.MULTILINE)) >= LOGGERS


@pytest.mark.slow
def test_the_map_of_the_package_leads_to_files_and_to_names_in_them() -> None:
    design = (ROOT / "docs" / "design.md").read_text()
    places = re.findall(r"`((?:trio_sse/)?_\w+/\w+\.py)`(?: \((`[^)]*)\))?", design)
    assert len(places) > 20
    for path, names in places:
        file = ROOT / "trio_sse" / path.removeprefix("trio_sse/")
        assert file.exists(), path
        named = set(re.findall(r"`([\w.]+)`", names))
        assert named <= names_in(file), path


def names_in(file: Path) -> set[str]:
    """Return the constants, functions and classes of a file, and the methods as `Class.method`."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            members = node.body if isinstance(node, ast.ClassDef) else []
            methods = [one for one in members if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found


def test_links_within_the_project_lead_somewhere() -> None:
    with Cases() as cases:
        for page in PAGES:
            for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", prose(page)):
                with cases.case((str(page.relative_to(ROOT)), target, anchor)):
                    file = page.parent / target if target else page
                    assert file.exists()
                    assert not anchor or anchor in anchors(file)


def test_the_readme_has_no_dead_links_on_a_package_index() -> None:
    hooks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    text = (ROOT / "README.md").read_text()
    for substitution in hooks["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    assert "[Trio](https://" in text
    assert not re.findall(r"\]\((?!https:)", text)
    assert "<!--" not in text

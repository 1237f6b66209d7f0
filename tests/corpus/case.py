"""Reading the files of cases: the bytes that are sent, and the outcome that a rule demands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "cases"

_REPEATED = re.compile(r"\\R([0-9]+)\(([^()]*)\)")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|([rnts0\\]))")
_SHORT = {"r": "\r", "n": "\n", "t": "\t", "s": " ", "0": "\0", "\\": "\\"}


class Case(NamedTuple):
    """A request.

    Attributes:
        place: the file and the line.
        rule: the section that decides, and what it says.
        text: what is written in the file.
        source: the same within its template, repetitions written out.
        raw: the bytes.
        outcomes: what must come of it, by host; that of the others is under "".
    """

    place: str
    rule: str
    text: str
    source: str
    raw: bytes
    outcomes: dict[str, str]

    def outcome(self, *hosts: str) -> str:
        """Return what must come of it on the first of these hosts of which the file says something."""
        return next((self.outcomes[host] for host in hosts if host in self.outcomes), self.outcomes[""])


def names() -> list[str]:
    """Return the names of all files."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def read(name: str) -> tuple[list[str], list[Case]]:
    """Return the hosts for which a file's cases are, and the cases."""
    hosts: list[str] = []
    cases: list[Case] = []
    rule = template = ""
    for number, line in enumerate((FOLDER / f"{name}.txt").read_text("utf-8").splitlines(), 1):
        mark, _, rest = line.partition(" ")
        if mark == "hosts":
            hosts = rest.split()
        elif mark == "@":
            rule, template = rest, "{}"
        elif mark == ">":
            template = rest
        elif mark and mark != "#":
            before, separator, text = line.partition("|")
            assert separator, f"{name}.txt:{number}: a case is: outcome | bytes"
            assert rule, f"{name}.txt:{number}: no rule"
            text = text.removeprefix(" ")
            source = expand(template.replace("{}", text))
            cases.append(
                Case(f"{name}.txt:{number}", rule, text, source, unescape(source), dict(_outcomes(before)))
            )
    return hosts, cases


def _outcomes(text: str) -> Iterator[tuple[str, str]]:
    words = text.split()
    yield "", complete(" ".join(word for word in words if "=" not in word))
    for word in words:
        host, equals, outcome = word.partition("=")
        if equals:
            yield host, complete(outcome.replace("+", " "))


def complete(outcome: str) -> str:
    """Return an outcome with what becomes of the connection, which is often obvious."""
    statuses, _, rest = outcome.partition(" ")
    last = statuses.rpartition(",")[2]
    if rest or not last.isdigit():
        return outcome
    return f"{outcome} {'keep' if int(last) < 400 else 'close'}" if last != "101" else outcome


def expand(text: str) -> str:
    """Return a text in which what is repeated is written out; one repetition may be within another."""
    while (longer := _REPEATED.sub(lambda match: match[2] * int(match[1]), text)) != text:
        text = longer
    return text


def unescape(text: str) -> bytes:
    """Return the bytes of a text in which `¶` is CRLF, and the rest is ASCII with escapes."""
    return _ESCAPE.sub(_unescaped, text.replace("¶", r"\r\n")).encode("latin-1")


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else _SHORT[match[2]]

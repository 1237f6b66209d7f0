"""The cases of the PROXY protocol: what a header is taken for."""

from __future__ import annotations

from collections.abc import Sequence

from trio_sse._proxies.proxy_protocol import ProxyHeaderError, Speaker, parse_proxy_header

from .case import Case

_FOLLOWING = b"GET / HTTP/1.1\r\n"
_OUTCOMES = {
    Speaker.CLIENT: "client",
    Speaker.UNIX_CLIENT: "unix",
    Speaker.UNKNOWN_CLIENT: "unknown",
    Speaker.PROXY: "proxy",
}


def outcome(data: bytes, size: int) -> str:
    """Return what the parser takes bytes for, of which the header must have `size`."""
    try:
        header = parse_proxy_header(data)
    except ProxyHeaderError:
        return "refused"
    if header is None:
        return "waits"
    return _OUTCOMES[header.speaker] if header.size == size else f"{header.size} bytes"


def run(cases: Sequence[Case]) -> list[str]:
    """Parse all headers, at once and byte by byte; return what is otherwise than it must be."""
    failures = []
    for case in cases:
        size, right = len(case.raw), case.outcomes[""]
        found = [outcome(case.raw[:length], size) for length in range(1, size + 1)]
        found = [what for what in found if what != "waits"] or ["waits"]
        if right != "waits":
            found.append(outcome(case.raw + _FOLLOWING, size))
        if set(found) != {right}:
            failures.append(f"{case.place}: {case.text!r}: {found}, not {right} ({case.rule})")
    return failures

"""Requests as bytes, which may be as wrong as a test needs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from _pytest.mark import ParameterSet

VALID = b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n"


def get(target: str | bytes, *lines: str | bytes, version: str = "1.1") -> bytes:
    """Return a GET request with further header lines."""
    return request("GET", target, *lines, version=version)


def request(
    method: str, target: str | bytes, *lines: str | bytes, host: str | None = "test", version: str = "1.1"
) -> bytes:
    """Return a request; text is encoded as Latin-1."""
    first = f"{method} ".encode() + _bytes(target) + f" HTTP/{version}".encode()
    hosts = [] if host is None else [_bytes(f"Host: {host}")]
    return b"\r\n".join([first, *hosts, *map(_bytes, lines), b"", b""])


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def named(cases: Mapping[str, object]) -> list[ParameterSet]:
    """Return named test parameters."""
    return [pytest.param(case, id=name) for name, case in cases.items()]

"""What a connection's bytes must be: whole responses, the last one cut at most, with whole events in them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from trio_sse import EventDecoder, ServerSentEvent

from .connections import ClientsEnd

_BODILESS = (204, 205, 304)


@dataclass
class Response:
    """A response as it came.

    Attributes:
        is_whole: its end has come.
    """

    status: int
    fields: dict[str, str]
    body: bytes
    is_whole: bool


def faults_of(end: ClientsEnd, *, is_consecutive: bool) -> list[str]:
    """Return what is wrong with what a client has received."""
    try:
        responses = list(_responses(bytes(end.received), _is_head_of_each(bytes(end.sent))))
    except (AssertionError, ValueError) as error:
        return [f"the output is malformed: {error}: {bytes(end.received)[-300:]!r}"]
    faults = []
    for response in responses:
        if response.fields.get("content-type", "").startswith("text/event-stream"):
            faults += _faults_of_stream(response, is_consecutive=is_consecutive)
    return faults


def _is_head_of_each(sent: bytes) -> list[bool]:
    """Return of each request whether it was a HEAD. No body of the scenarios looks like a request."""
    return [method == b"HEAD" for method in re.findall(rb"([A-Z]+) [^ ]+ HTTP/1\.1\r\n", sent)]


def _responses(data: bytes, are_heads: list[bool]) -> Iterator[Response]:
    for is_head in [*are_heads, False]:
        while data:
            head, separator, data = data.partition(b"\r\n\r\n")
            if not separator:
                return  # it was cut
            status_line, *lines = head.decode("latin-1").split("\r\n")
            version, status, _ = status_line.split(" ", 2)
            assert version == "HTTP/1.1", "that is no response"
            fields = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
            response = Response(int(status), fields, b"", is_whole=True)
            if response.status == 101:
                response.body = data
                yield response
                return  # a WebSocket's frames, whatever they are
            if response.status >= 200:
                if not is_head and response.status not in _BODILESS:
                    data = _take_body(response, data)
                yield response
                if not response.is_whole:
                    return
                break
    assert not data, "bytes follow the last response"


def _take_body(response: Response, data: bytes) -> bytes:
    """Take a response's body from the beginning of what came; return the rest."""
    if (length := response.fields.get("content-length")) is not None:
        response.body, data = data[: int(length)], data[int(length) :]
        response.is_whole = len(response.body) == int(length)
        return data
    if response.fields.get("transfer-encoding") != "chunked":
        response.body, response.is_whole = data, True
        return b""
    while True:
        line, separator, rest = data.partition(b"\r\n")
        if not separator:
            response.is_whole = False
            return b""
        size = int(line, 16)
        response.body += rest[:size]
        if len(rest) < size + 2:
            response.is_whole = False
            return b""
        assert rest[size : size + 2] == b"\r\n", "a chunk does not end"
        data = rest[size + 2 :]
        if not size:
            return data


def _faults_of_stream(response: Response, *, is_consecutive: bool) -> list[str]:
    faults = []
    last = response.body.rpartition(b"\n\n")[2]
    # Comments and times to reconnect need no blank line: they take effect where they stand.
    if response.is_whole and not all(line.startswith((b":", b"retry:")) for line in last.split(b"\n")[:-1]):
        faults.append(f"a complete body ends within an event: {response.body[-200:]!r}")
    events = EventDecoder().feed(response.body)
    faults += _faults_of_order(events) if is_consecutive else []
    ids = [(event, place) for event in events if (place := _place(event.id or "")) is not None]
    for (first, place), (second, following) in itertools.pairwise(ids):
        if place[0] != following[0]:
            continue
        are_snapshots = first.event == second.event == "snapshot"  # of two states, at the same moment
        if following < place or (following == place and not are_snapshots):
            faults.append(f"ids do not grow: {[event.id for event, _ in ids]}")
    return faults


def _place(id: str) -> tuple[str, int] | None:
    """Return the epoch and the number of an id that is a hub's own."""
    epoch, dot, number = id.partition(".")
    return (epoch, int(number)) if dot and "~" not in epoch and number.isdecimal() else None


def _faults_of_order(events: list[ServerSentEvent]) -> list[str]:
    """Return whether numbers that were published one after the other did not come so."""
    last: int | None = None
    for event in events:
        if event.event == "reset":
            last = None
        elif isinstance(event.data, str) and event.data.isdecimal():
            number = int(event.data)
            if last is not None and number != last + 1:
                return [f"{number} comes after {last}: {[event.data for event in events]}"]
            last = number
    return []

"""What a server has sent in HTTP/1.1, in the words of the cases."""

from __future__ import annotations

import json
from typing import NamedTuple


class Answers(NamedTuple):
    """The responses of a connection.

    Attributes:
        statuses: those of the responses, also interim ones.
        bodies: those of the responses that are complete.
        says_close: whether the last head has `Connection: close`.
        is_open: whether the last response is a stream that goes on.
        begins_with: the first event's type.
        faults: what no response may be.
    """

    statuses: list[str]
    bodies: list[bytes]
    says_close: bool
    is_open: bool
    begins_with: str
    faults: list[str]


def parse(sent: bytes, *, is_head: bool, is_ended: bool) -> Answers:
    """Parse what a server has sent.

    Args:
        is_head: the first response has no body.
        is_ended: nothing more comes.
    """
    statuses: list[str] = []
    bodies: list[bytes] = []
    faults: list[str] = []
    says_close = is_open = False
    begins_with = ""
    rest = sent
    while rest:
        head, end, rest = rest.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        if not end or lines[0][:9] != "HTTP/1.1 ":
            faults.append(f"no head: {head[:60]!r}")
            break
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        status = lines[0][9:12]
        statuses.append(status)
        says_close = "close" in fields.get("connection", "")
        if any(word in head.lower() for word in (b"traceback", b"h11", b"trio", b".py")):
            faults.append(f"it shows internals: {head!r}")
        if status == "100":
            continue
        if status == "101":
            break
        body = b""
        if (is_head and not bodies) or status in ("204", "304"):
            pass
        elif "transfer-encoding" in fields:
            body, rest, is_open = _unchunked(rest)
        elif "content-length" in fields:
            size = int(fields["content-length"])
            body, rest = rest[:size], rest[size:]
            if len(body) < size:
                faults.append("the body is cut")
        else:
            body, rest, is_open = rest, b"", not is_ended
        if not body.isascii() and status[0] in "45":
            faults.append(f"the refusal is not ASCII: {body!r}")
        begins_with = begins_with or _first_event(body, fields.get("content-type", ""))
        if is_open:
            break
        bodies.append(body)
    return Answers(statuses, bodies, says_close, is_open, begins_with, faults)


def _unchunked(data: bytes) -> tuple[bytes, bytes, bool]:
    """Return a chunked body, what follows it, and whether it goes on."""
    body = b""
    while data:
        line, _, rest = data.partition(b"\r\n")
        size = int(line, 16)
        body, end, data = body + rest[:size], rest[size : size + 2], rest[size + 2 :]
        assert end == b"\r\n"
        if not size:
            return body, data, False
    return body, b"", True


def _first_event(body: bytes, content_type: str) -> str:
    """Return the type of the first event of a stream or a poll."""
    if content_type.startswith("application/json"):
        events = json.loads(body).get("events") or [{}]
        return str(events[0].get("event", ""))
    for line in body.split(b"\n"):
        if line[:6] == b"event:":
            return line[6:].strip().decode()
        if line[:5] == b"data:":
            break
    return ""

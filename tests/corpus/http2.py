"""The cases over HTTP/2: header lists as they are, and requests of HTTP/1.1 as header lists."""

from __future__ import annotations

import re
from collections.abc import Sequence

import trio
import trio.testing

from trio_sse._http2.error_code import ErrorCode
from trio_sse._http2.frames import (
    Flag,
    FrameReader,
    FrameType,
    encode_block,
    encode_frame,
    encode_settings,
)
from trio_sse._http2.header_block import encode_fields
from trio_sse._http2.header_decoder import HeaderDecoder
from trio_sse._http2.preface import PREFACE

from ..support.serving import running
from ..support.waiting import SECONDS
from .case import Case, unescape
from .connection import ScriptedStream
from .subjects import Subject, connection_number

Fields = list[tuple[bytes, bytes]]

_REQUEST_LINE = re.compile(rb"([^ ]+) ([^ :]+) HTTP/1\.1")

# A request with them means something else in HTTP/2, or is malformed there; so there are cases of its own.
_NOT_TRANSLATED = re.compile(
    rb"\n(?:connection|keep-alive|proxy-connection|transfer-encoding|upgrade|te)[ \t]*:", re.IGNORECASE
)
_ALONE = b"\r\n\r\n"

# So many requests may be open at once.
_BATCH = 100


def fields_of(source: str) -> Fields:
    """Return the header list of lines, one for each field."""
    return [_split(unescape(line)) for line in source.split("¶")]


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line[1:].partition(b":")
    return line[:1] + name, value.removeprefix(b" ")


def translated(raw: bytes) -> tuple[Fields, bytes] | None:
    """Return the header list and the body of a request of HTTP/1.1; `None` if HTTP/2 cannot say the same."""
    head, end, body = raw.partition(_ALONE)
    request_line, _, block = head.partition(b"\r\n")
    match = _REQUEST_LINE.fullmatch(request_line)
    lines = block.split(b"\r\n")
    if (
        not end
        or match is None
        or _NOT_TRANSLATED.search(head)
        or not all(b":" in line[1:] for line in lines)
    ):
        return None
    if match[1] == b"CONNECT" or b"GET /" in body or b"HEAD /" in body:
        return None
    pseudo = [(b":method", match[1]), (b":scheme", b"http"), (b":path", match[2])]
    pairs = [line.partition(b":") for line in lines]
    return [*pseudo, *((name.lower(), value.strip(b" \t")) for name, _, value in pairs)], body


class Responses:
    """What a client has received.

    Attributes:
        seen: by stream, the final statuses and the codes of errors; of the connection under 0.
    """

    def __init__(self) -> None:
        self.seen: dict[int, list[str]] = {}
        self._reader, self._decoder = FrameReader(), HeaderDecoder()

    def take(self, sent: bytearray) -> None:
        """Take what the server has sent."""
        self._reader.feed(bytes(sent))
        sent.clear()
        while (frame := self._reader.take()) is not None:
            type, _, stream_id, payload = frame
            what = ""
            if type == FrameType.HEADERS:
                what = dict(self._decoder.decode(payload))[b":status"].decode()
            elif type in (FrameType.RST_STREAM, FrameType.GOAWAY):
                place = 4 if type == FrameType.GOAWAY else 0
                what = ErrorCode(int.from_bytes(payload[place : place + 4])).name
            if what not in ("", "100", "NO_ERROR"):
                self.seen.setdefault(stream_id, []).append(what)


def is_as_expected(seen: list[str], outcome: str) -> bool:
    """Return whether what has come is the outcome, or the refusal that HTTP/2 has in its stead."""
    status = outcome.partition(" ")[0]
    if status == "reset":
        return seen == ["PROTOCOL_ERROR"]
    if status[0] in "23":
        return seen[:1] == [status]
    return seen == ["PROTOCOL_ERROR"] or (bool(seen) and seen[0].isdigit() and seen[0] >= "400")


def requests_of(cases: Sequence[Case], *, are_fields: bool) -> list[tuple[Case, Fields, bytes]]:
    """Return the cases that can be sent, with their header lists and bodies."""
    found = []
    for case in cases:
        if case.outcome("http2") in ("-", "waits") or "," in case.outcome("http2"):
            continue
        request = (fields_of(case.source), b"") if are_fields else translated(case.raw)
        if request is not None:
            found.append((case, *request))
    return found


async def run(
    subject: Subject, host: str, cases: Sequence[Case], clock: trio.testing.MockClock, piece: int
) -> list[str]:
    """Send the cases on one connection; return what has come otherwise than it must."""
    requests = requests_of(cases, are_fields=host == "fields")
    stream, log, failures, statuses = ScriptedStream(piece), Responses(), [], 0
    with trio.fail_after(SECONDS):
        async with running(subject.server.hub) as nursery:
            await nursery.start(subject.server.serve_in_memory)  # so that the app is up all the time
            connection_number.set(0)
            nursery.start_soon(subject.server.serve_stream, stream)
            stream.write(PREFACE + encode_settings({}))
            for start in range(0, len(requests), _BATCH):
                for number in range(start, min(start + _BATCH, len(requests))):
                    stream.write(_frames(2 * number + 1, *requests[number][1:]))
                await trio.testing.wait_all_tasks_blocked()
                clock.jump(1)
                await trio.testing.wait_all_tasks_blocked()
                log.take(stream.sent)
            for number, (case, fields, _) in enumerate(requests):
                found = log.seen.get(2 * number + 1, [])
                outcome = case.outcome("http2", host.removesuffix(" over http2"))
                statuses += found[:1] == ["200"]
                if not is_as_expected(found, outcome):
                    failures.append(f"{case.place}: {fields!r:.300}: {found}, not {outcome} ({case.rule})")
            assert not stream.is_ended, f"the connection has ended: {log.seen.get(0)}"
            stream.end()
    if subject.entered[0] != statuses:
        failures.append(f"{subject.entered[0]} requests were handled, and {statuses} were answered with 200")
    return failures + [f"smuggled: {path}" for path in subject.paths if "smuggled" in path]


def _frames(stream_id: int, fields: Fields, body: bytes) -> bytes:
    block = encode_fields(fields)
    head = encode_block(stream_id, block, ends_stream=not body)
    return head + (encode_frame(FrameType.DATA, Flag.END_STREAM, stream_id, body) if body else b"")

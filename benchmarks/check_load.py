"""Check the load: does it count exactly, however the bytes arrive? `python -m benchmarks.check_load`.

A small server sends streams with known events, with every kind of line ending, in chunks and in writes that
split at random places. It also sends streams with one fault each, which the load must report. It does the
same over HTTP/2, where frames of all streams alternate, with frames of other types between them.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Iterator, Sequence

import trio

from benchmarks.harness import http2_load, programs, subjects
from benchmarks.harness.worker import BenchmarkError, Worker

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = 200
STREAMS = 8
SEEDS = 20

# Frames of HTTP/2 and their flags.
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS, PADDED = 4, 8

#: Events, ids and gaps between ids.
Totals = tuple[float, ...]


def events(chance: random.Random, numbers: Iterator[int]) -> bytes:
    """Return a stream of `EVENTS` events of every form, with comments and other non-events between them."""
    parts = []
    for index in range(EVENTS):
        end = chance.choice(("\n", "\r\n", "\r"))
        lines = [f"id: e.{next(numbers)}", "data: " + "x" * chance.randrange(200)]
        lines += ["data: \u2028 data: one more line"] * chance.randrange(3)
        lines += chance.choice(
            ([], ["event: tick"], ["datum: not data"], ["retry: 1"], [": data: a comment"])
        )
        chance.shuffle(lines)
        parts.append("".join(line + end for line in lines) + end)
        if index < EVENTS - 1:
            parts.append(chance.choice(("", f":{end}", end, f"event: without data{end}{end}")))
    return "".join(parts).encode()


def chunks(chance: random.Random, body: bytes) -> bytes:
    """Return a body in chunks whose boundaries are independent of its events."""
    framed = []
    while body:
        size = chance.choice((1, 2, 3, chance.randrange(1, 400)))
        part, body = body[:size], body[size:]
        header = chance.choice((b"%x", b"%X", b"00%x", b"%x;name=value")) % len(part)
        framed.append(b"%b\r\n%b\r\n" % (header, part))
    return b"".join(framed)


def response(seed: int, missing: int = -1) -> list[bytes]:
    """Return a complete response, in the pieces in which it is written."""
    chance = random.Random(seed)
    numbers = (number for number in range(EVENTS + 1) if number != missing)
    return split(chance, HEAD + chunks(chance, events(chance, numbers)))


def split(chance: random.Random, rest: bytes) -> list[bytes]:
    """Return bytes in pieces of random sizes."""
    pieces = []
    while rest:
        size = chance.randrange(1, 60)
        pieces.append(rest[:size])
        rest = rest[size:]
    return pieces


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame of HTTP/2."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def response_over_http2(seed: int) -> list[bytes]:
    """Return the responses to all streams of a connection, in the pieces in which they are written."""
    chance = random.Random(seed)
    left: dict[int, list[bytes]] = {}
    for stream in range(1, 2 * STREAMS, 2):
        size = chance.choice((b"", b"\x20", b"\x3f\xe1\x1f"))  # of the dynamic table
        head = frame(HEADERS, END_HEADERS, stream, size + b"\x88" + b"\x10\x01a\x40" + b"x" * 0x40)
        body = split(chance, events(chance, iter(range(EVENTS))))
        left[stream] = [head, *(frame(DATA, 0, stream, piece) for piece in body)]
    others = (
        frame(SETTINGS, 0, 0, b"\x00\x03\x00\x00\x00\x64" * 9),
        frame(SETTINGS, ACK, 0, b""),
        frame(PING, 0, 0, b"12345678"),
        frame(WINDOW_UPDATE, 0, 0, b"\x00\x00\x00\x01"),
        frame(DATA, 0, 1, b""),
        frame(99, 0, 1, b"unknown" * 20),
    )
    wire = [others[0]]
    while left:
        stream = chance.choice(list(left))
        wire += [left[stream].pop(0), *chance.choices(others, k=chance.randrange(2))]
        if not left[stream]:
            del left[stream]
    return split(chance, b"".join(wire))


async def check(
    name: str,
    pieces: Sequence[bytes],
    expected: Totals | str,
    *options: str,
    then_close: bool = False,
) -> None:
    """Write `pieces` to each connection of a load, and check what the load reports.

    Args:
        name: what is checked, for the output.
        pieces: the response, or the responses to all streams over HTTP/2.
        expected: the totals of one stream, or a part of the error that the load must report.
        options: of the load.
        then_close: close the connection after the last piece.
    """

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()  # the request; the load sends it in one piece
            for piece in pieces:
                await stream.send_all(piece)
            if not then_close:
                await trio.sleep_forever()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        async with subjects.load(listeners[0].socket.getsockname()[1], 0, *options) as load:
            seen = await _totals(load)
        nursery.cancel_scope.cancel()
    right = expected in seen if isinstance(seen, str) and isinstance(expected, str) else seen == expected
    print(f"{name}: {seen}{'' if right else f', but expected {expected}'}")
    if not right:
        sys.exit(1)


async def _totals(load: Worker) -> Totals | str:
    """Return the totals of one stream once they no longer change, or the error that the load reports."""
    try:
        await subjects.connect(load, STREAMS)
        seen, before = await load.ask("report"), None
        while seen["events"] != before:
            before = seen["events"]
            await trio.sleep(0.3)
            seen = await load.ask("report")
    except BenchmarkError as error:
        return str(error)
    return tuple(seen[name] / STREAMS for name in ("events", "ids", "id_gaps"))


async def check_all() -> None:
    for seed in range(SEEDS):
        await check(f"random splits {seed}", response(seed), (EVENTS, EVENTS, 0))
        http2 = http2_load.options(80, 1, is_secure=False)
        await check(f"HTTP/2 {seed}", response_over_http2(seed), (EVENTS, EVENTS, 0), *http2)
    await check("a lost event", response(0, missing=50), (EVENTS, EVENTS, 1))
    await check("an end in mid-event", response(0)[:500], "the server closed it", then_close=True)
    await check("a proper end", [HEAD + b"0\r\n\r\n"], "the server ended the stream")
    await check("an overload", [b"HTTP/1.1 503 Busy\r\n\r\n"], "status is not 200")
    await check("a page", [b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"], "not an event stream")
    await check("a chunk without size", [HEAD + b"\r\n"], "a chunk's size")
    await check("a chunk of wrong size", [HEAD + b"1\r\nxx\r\n"], "a chunk's end")
    head = frame(HEADERS, END_HEADERS, 1, b"\x88")
    for name, pieces, error in (
        ("an overload", [frame(HEADERS, END_HEADERS, 1, b"\x8e")], "status is not 200"),
        ("a proper end", [head + frame(DATA, END_STREAM, 1, b"")], "the server ended the stream"),
        ("a reset", [head + frame(RST_STREAM, 0, 1, bytes(4))], "the server reset the stream"),
        ("padding", [head + frame(DATA, PADDED, 1, b"\x01xx")], "padding is not supported"),
        ("an end of the connection", [head], "the server closed it"),
        ("a GOAWAY", [head + frame(GOAWAY, 0, 0, bytes(8))], "the server sent GOAWAY"),
    ):
        await check(f"HTTP/2: {name}", pieces, error, *http2, then_close=True)


if __name__ == "__main__":
    programs.build()
    trio.run(check_all)

"""Check the load: does it count exactly, however the bytes arrive? `python -m benchmarks.check_load`.

A small server sends streams with known events, with every kind of line ending, in chunks and in writes that
split at random places. It also sends streams with one fault each, which the load must report.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence

import trio

from benchmarks.harness import programs, subjects
from benchmarks.harness.worker import BenchmarkError, Worker

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = 200
STREAMS = 8
SEEDS = 20

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
    rest = HEAD + chunks(chance, events(chance, numbers))
    pieces = []
    while rest:
        size = chance.randrange(1, 60)
        pieces.append(rest[:size])
        rest = rest[size:]
    return pieces


async def check(
    name: str, pieces: Sequence[bytes], expected: Totals | str, *, then_close: bool = False
) -> None:
    """Write `pieces` to each stream of a load, and check what the load reports.

    Args:
        name: what is checked, for the output.
        pieces: the response.
        expected: the totals of one stream, or a part of the error that the load must report.
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
        async with subjects.load(listeners[0].socket.getsockname()[1]) as load:
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
    await check("a lost event", response(0, missing=50), (EVENTS, EVENTS, 1))
    await check("an end in mid-event", response(0)[:500], "the server closed it", then_close=True)
    await check("a proper end", [HEAD + b"0\r\n\r\n"], "the server ended the stream")
    await check("an overload", [b"HTTP/1.1 503 Busy\r\n\r\n"], "status is not 200")
    await check("a page", [b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"], "not an event stream")
    await check("a chunk without size", [HEAD + b"\r\n"], "a chunk's size")
    await check("a chunk of wrong size", [HEAD + b"1\r\nxx\r\n"], "a chunk's end")


if __name__ == "__main__":
    programs.build()
    trio.run(check_all)

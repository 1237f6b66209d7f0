"""Request bodies: their bounds of size and time, and strict decoding of chunked ones."""

from __future__ import annotations

import math
from typing import cast

import pytest
import trio
import trio.testing

from trio_sse import HTTPException
from trio_sse._http.body_decoders import ChunkedDecoder
from trio_sse._http.request_head import RequestHead, parse_head
from trio_sse._request.body import BodyReader, receive_body
from trio_sse._transport.arriving_bytes import ArrivingBytes
from trio_sse._transport.base import Transport

from ..support.chunks import BAD_CHUNKS, GOOD_CHUNKS
from ..support.hostile import Target, assert_all_refused, assert_refused, logged, send_in_pieces
from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets

CHUNKED = b"POST /body HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


def sized(body: bytes, *lines: str, length: int | None = None) -> bytes:
    """Return a POST request with a Content-Length."""
    length = len(body) if length is None else length
    head = ["POST /body HTTP/1.1", "Host: test", f"Content-Length: {length}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


@pytest.mark.slow
async def test_malformed_chunks_are_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    requests = {name: CHUNKED + chunks for name, chunks in BAD_CHUNKS.items()}
    await assert_all_refused(make_server, caplog, requests, 400)


@pytest.mark.parametrize(
    ("chunks", "body"), [pytest.param(*case, id=name) for name, case in GOOD_CHUNKS.items()]
)
async def test_chunks_may_be_split_anywhere(make_server: MakeServer, chunks: bytes, body: bytes) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        for split in range(len(chunks) + 1):
            await client.send(CHUNKED + chunks[:split])
            await trio.testing.wait_all_tasks_blocked()
            await client.send(chunks[split:])
            assert (await client.head()).status == 200
            await client.rest()

    assert target.bodies == [body] * (len(chunks) + 1)


@pytest.mark.parametrize(
    "chunks",
    [
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"zz\r\n0\r\n\r\n",
        b"5\n0\r\n\r\n",
        b"ffff\r\n0\r\n\r\n",  # too large
        b"1\r\nxx\r\n0\r\n\r\n",
    ],
)
async def test_after_a_fault_nothing_is_taken_for_the_rest_of_the_body(chunks: bytes) -> None:
    body = reader_of(parse_head(CHUNKED[:-4]), trio.testing.memory_stream_pair()[0])
    body.buffer += chunks + b"GET /next HTTP/1.1\r\n\r\n"
    for _ in range(3):
        with pytest.raises(HTTPException):
            body.receive_nowait()
        with pytest.raises(HTTPException):
            await body.receive_some()
        assert not await body.discard()
        assert not body.is_complete


async def test_chunks_may_come_byte_by_byte(make_server: MakeServer) -> None:
    target = Target(make_server)
    chunks, body = GOOD_CHUNKS["extensions"]

    async with in_memory(target.server) as serving, serving.connect() as client:
        await send_in_pieces(client, CHUNKED + chunks, 1)
        assert (await client.head()).status == 200

    assert target.bodies == [body]


async def test_bytes_after_a_body_are_the_next_request(make_server: MakeServer) -> None:
    target = Target(make_server)
    chunks, body = GOOD_CHUNKS["trailers"]
    first = CHUNKED.replace(b"/body", b"/echo/a") + chunks
    second = sized(b"678").replace(b"/body", b"/echo/b")

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send((first + second) * 2)
        answers = [await client.sized_body(await client.head()) for _ in range(4)]

    assert answers == [b"a", b"b"] * 2
    assert target.bodies == [body, b"678"] * 2


async def test_a_stream_receives_the_body_of_a_post(make_server: MakeServer) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        for body in (b"one", b"", b"a" * 100_000):
            await client.send(sized(body))
            assert (await client.head()).status == 200
            assert [event.data for event in await client.rest()] == [body.decode()]


@pytest.mark.parametrize(
    "body", ["Content-Length: 5\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
)
async def test_a_get_with_a_body_is_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, body: str
) -> None:
    raw = f"GET /stream HTTP/1.1\r\nHost: test\r\n{body}".encode()

    await assert_refused(Target(make_server), caplog, raw, 400)


# Bounds of size


@pytest.mark.parametrize("length", [11, 10**6, 10**18])
async def test_a_body_announced_as_too_large_is_not_read(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    await assert_refused(Target(make_server, max_body_size=10), caplog, sized(b"", length=length), 413)


@pytest.mark.parametrize(
    "chunks", [b"b\r\n", b"5\r\n12345\r\n6\r\n", b"1\r\n1\r\n" * 11, b"fffffffffffffff\r\n"]
)
async def test_chunks_that_are_too_large_together_are_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, chunks: bytes
) -> None:
    await assert_refused(Target(make_server, max_body_size=10), caplog, CHUNKED + chunks, 413)


@pytest.mark.parametrize("raw", [sized(b"1234567890"), CHUNKED + b"a\r\n1234567890\r\n0\r\n\r\n"])
async def test_a_body_as_large_as_the_bound_is_accepted(make_server: MakeServer, raw: bytes) -> None:
    target = Target(make_server, max_body_size=10)

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send(raw)
        assert (await client.head()).status == 200

    assert target.bodies == [b"1234567890"]


async def test_a_bound_of_zero_refuses_every_body(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    await assert_refused(Target(make_server, max_body_size=0), caplog, sized(b"1"), 413)


async def test_the_response_arrives_although_the_body_is_unread(make_server: MakeServer) -> None:
    target = Target(make_server, max_body_size=10)

    async with on_sockets(target.server) as serving, await serving.connect() as client:
        await client.send(
            sized(b"a" * 16 * 1024 * 1024)
        )  # many clients read only when they have sent all of it
        head = await client.head()
        body = await client.sized_body(head)

    assert (head.status, body) == (413, b"the body must have at most 10 bytes\n")


# Expectations


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue"])
async def test_a_client_that_waits_gets_100_continue(make_server: MakeServer, expect: str) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send(sized(b"", f"Expect: {expect}", length=5))
        interim = await client.head()
        await client.send(b"12345")
        final = await client.head()

    assert (interim.status, interim.fields) == (100, [])
    assert final.status == 200
    assert target.bodies == [b"12345"]


async def test_a_client_that_does_not_wait_gets_no_100_continue(make_server: MakeServer) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send(sized(b"12345", "Expect: 100-continue"))
        assert (await client.head()).status == 200


async def test_http_1_0_gets_no_100_continue(make_server: MakeServer) -> None:
    raw = sized(b"", "Expect: 100-continue", length=5).replace(b"HTTP/1.1", b"HTTP/1.0")

    async with in_memory(Target(make_server).server) as serving, serving.connect() as client:
        await client.send(raw)
        await trio.testing.wait_all_tasks_blocked()
        await client.send(b"12345")
        assert (await client.head()).status == 200


async def test_a_refused_client_gets_no_100_continue(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    raw = sized(b"", "Expect: 100-continue", length=11)

    await assert_refused(Target(make_server, max_body_size=10), caplog, raw, 413)


@pytest.mark.parametrize("expect", ["200-ok", "100-continue, x", "", "100"])
@pytest.mark.parametrize("length", [0, 5])
async def test_other_expectations_are_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, expect: str, length: int
) -> None:
    await assert_refused(Target(make_server), caplog, sized(b"", f"Expect: {expect}", length=length), 417)


@pytest.mark.parametrize("expect", ["foo", "100-continue", ""])
async def test_every_expectation_counts(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, expect: str
) -> None:
    raw = sized(b"12345", "Expect: 100-continue", f"Expect: {expect}")

    if expect == "100-continue":
        assert (
            await Target(make_server).answer(raw.replace(b"Host:", b"Connection: close\r\nHost:"))
        ).status == 200
    else:
        await assert_refused(Target(make_server), caplog, raw, 417)


# Bounds of time


@pytest.mark.parametrize("pause", [1, 1000])
@pytest.mark.parametrize("head", [sized(b"", length=1000), CHUNKED + b"a;"])
async def test_a_slow_body_is_refused(
    make_server: MakeServer,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
    head: bytes,
    pause: float,
) -> None:
    caplog.set_level("INFO", logger="trio_sse")
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send(head)
        began_at = trio.current_time()

        async def drip() -> None:
            while True:
                await trio.sleep(pause)
                await client.send(b"a")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            answer = await client.head()
            seconds = trio.current_time() - began_at
            nursery.cancel_scope.cancel()

    assert (answer.status, answer.get("Connection")) == (408, "close")
    assert math.isclose(seconds, 30, abs_tol=1)
    assert len(logged(caplog)) == 1
    target.assert_untouched()


async def test_endless_tiny_chunks_do_not_starve_other_tasks() -> None:
    class Tireless:
        """A client that always has more to read, without waiting."""

        async def receive_some(self) -> bytes:
            return b"1\r\n1\r\n" * 100

    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    head = parse_head(CHUNKED[:-4])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        with pytest.raises(HTTPException, match="at most 10000 bytes"):
            await receive_body(reader_of(head, Tireless()), ArrivingBytes())
        nursery.cancel_scope.cancel()

    assert turns >= 100


def reader_of(head: RequestHead, transport: object) -> BodyReader:
    """Return the reader of a route's body."""
    return BodyReader(
        head, cast("Transport", transport), bytearray(), 10_000, timeout=30, is_bounded_in_all=True
    )


async def test_decoding_counts_against_the_time_of_a_body(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sending:
        """A client whose bytes are always there."""

        async def receive_some(self) -> bytes:
            return b"1\r\n1\r\n"

    def feed(decoder: ChunkedDecoder, buffer: bytearray) -> None:
        autojump_clock.jump(1)
        decode(decoder, buffer)

    decode = ChunkedDecoder.feed
    monkeypatch.setattr(ChunkedDecoder, "feed", feed)
    head = parse_head(CHUNKED[:-4])
    with pytest.raises(HTTPException, match="in time"):
        await receive_body(reader_of(head, Sending()), ArrivingBytes())


@pytest.mark.parametrize(
    "raw", [sized(b"123", length=5), CHUNKED, CHUNKED + b"5\r\n123", CHUNKED + b"5\r\n12345\r\n0\r\nX: "]
)
async def test_a_truncated_body_calls_no_handler(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    caplog.set_level("INFO", logger="trio_sse")
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send(raw)
        assert isinstance(client.stream, trio.StapledStream)
        await client.stream.send_eof()
        assert await client.closed() == b""

    assert logged(caplog) == []
    target.assert_untouched()

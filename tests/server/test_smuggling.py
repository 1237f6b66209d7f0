"""Requests whose end two parsers might see in different places, and bytes after a stream."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
import trio.testing

from trio_sse import EndReason

from ..support.hostile import Target, assert_all_refused, assert_refused, connected
from ..support.leaks import MakeServer
from ..support.raw_requests import VALID, get, request
from ..support.serving import in_memory
from ..support.waiting import SECONDS

KIB = 1024


BAD_BODY_LENGTHS: dict[str, tuple[str | bytes, ...]] = {
    "with Transfer-Encoding": ("Content-Length: 5", "Transfer-Encoding: chunked"),
    "with Transfer-Encoding before it": ("Transfer-Encoding: chunked", "Content-Length: 5"),
    "of zero with Transfer-Encoding": ("Content-Length: 0", "Transfer-Encoding: chunked"),
    "two that differ": ("Content-Length: 5", "Content-Length: 6"),
    "two that agree": ("Content-Length: 5", "Content-Length: 5"),
    "two that agree, differently written": ("Content-Length: 5", "content-length: 05"),
    "listed": ("Content-Length: 5, 5",),
    "listed without a space": ("Content-Length: 5,5",),
    "listed with nothing": ("Content-Length: 5,",),
    "plus": ("Content-Length: +5",),
    "minus": ("Content-Length: -1",),
    "minus zero": ("Content-Length: -0",),
    "hexadecimal": ("Content-Length: 0x1",),
    "underscore": ("Content-Length: 1_0",),
    "space within": ("Content-Length: 1 0",),
    "fraction": ("Content-Length: 5.0",),
    "empty": ("Content-Length:",),
    "superscript digit": ("Content-Length: ²",),
    "Arabic digit": (b"Content-Length: \xd9\xa5",),
    "vertical tab": (b"Content-Length: \x0b5",),
    "quoted": ('Content-Length: "5"',),
    "vertical tab before chunked": (b"Transfer-Encoding: \x0bchunked",),
    "vertical tab after chunked": (b"Transfer-Encoding: chunked\x0b",),
    "form feed before chunked": (b"Transfer-Encoding: \x0cchunked",),
    "NUL after chunked": (b"Transfer-Encoding: chunked\x00",),
    "folded chunked": ("Transfer-Encoding:", " chunked"),
    "space before the colon": ("Transfer-Encoding : chunked",),
}

BAD_CODINGS = {
    "identity": ("Transfer-Encoding: identity",),
    "gzip first": ("Transfer-Encoding: gzip, chunked",),
    "gzip last": ("Transfer-Encoding: chunked, gzip",),
    "twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "listed twice": ("Transfer-Encoding: chunked, chunked",),
    "twice, one of them identity": ("Transfer-Encoding: identity", "Transfer-Encoding: chunked"),
    "empty": ("Transfer-Encoding:",),
    "empty item": ("Transfer-Encoding: , chunked",),
    "parameter": ("Transfer-Encoding: chunked;a=b",),
    "quoted": ('Transfer-Encoding: "chunked"',),
    "no-break space": (b"Transfer-Encoding: \xa0chunked",),
    "prefix": ("Transfer-Encoding: xchunked",),
    "suffix": ("Transfer-Encoding: chunkedx",),
}

# They end with chunked, so it is clear where the body ends.
UNSUPPORTED = ("gzip first", "twice, one of them identity")


async def test_a_body_length_that_could_be_misread_is_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    after = b"0\r\n\r\n" + VALID
    requests = {name: request("POST", "/body", *lines) + after for name, lines in BAD_BODY_LENGTHS.items()}

    await assert_all_refused(make_server, caplog, requests, 400)


@pytest.mark.parametrize("digits", ["9" * 20, "1" + "0" * 19, "0" * 19 + "5", "9" * 21, "9" * 4000])
async def test_a_content_length_of_twenty_digits_is_too_large(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, digits: str
) -> None:
    await assert_refused(
        Target(make_server), caplog, request("POST", "/body", f"Content-Length: {digits}"), 413
    )


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param(lines, 501 if name in UNSUPPORTED else 400, id=name)
        for name, lines in BAD_CODINGS.items()
    ],
)
async def test_other_transfer_codings_are_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, lines: tuple[str | bytes, ...], status: int
) -> None:
    raw = request("POST", "/body", *lines) + b"0\r\n\r\n" + VALID

    await assert_refused(Target(make_server), caplog, raw, status)


async def test_http_1_0_has_no_transfer_encoding(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    raw = request("POST", "/body", "Transfer-Encoding: chunked", version="1.0") + b"0\r\n\r\n"

    await assert_refused(Target(make_server), caplog, raw, 400)


@pytest.mark.parametrize("name", ["Transfer_Encoding", "Content_Length", "TransferEncoding"])
async def test_names_that_resemble_content_length_are_ignored(make_server: MakeServer, name: str) -> None:
    target = Target(make_server)
    raw = request("POST", "/body", f"{name}: chunked", "Content-Length: 5", "Connection: close") + b"12345"

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send(raw)
        assert (await client.head()).status == 200
        await client.rest()

    assert target.bodies == [b"12345"]


async def test_an_unread_body_closes_the_connection(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    smuggled = request("POST", "/body", "Content-Length: 0")
    raw = request("POST", "/nowhere", f"Content-Length: {len(smuggled)}") + smuggled

    await assert_refused(Target(make_server), caplog, raw, 404)


@pytest.mark.parametrize("over", ["memory", "sockets"])
async def test_bytes_pipelined_after_a_stream_are_never_a_request(make_server: MakeServer, over: str) -> None:
    target = Target(make_server)
    raw = VALID + request("POST", "/body", "Content-Length: 0")

    with trio.fail_after(SECONDS):
        async with connected(target.server, over) as client:
            await client.send(raw)
            await client.head()
            events = await client.rest()
            after = await client.closed()

    assert [event.data for event in events] == ["streamed"]
    assert after == b""
    assert target.entered == ["/stream"]


@pytest.mark.parametrize("over", ["memory", "sockets"])
@pytest.mark.parametrize("is_at_once", [False, True])
async def test_a_client_that_sends_too_much_is_disconnected(
    make_server: MakeServer, over: str, is_at_once: bool
) -> None:
    target = Target(make_server)
    flood = request("POST", "/body", "Content-Length: 0") * 1000

    async with connected(target.server, over) as client:
        if not is_at_once:
            await client.get("/topics/a")
        with trio.fail_after(SECONDS), suppress(trio.BrokenResourceError):  # it is cut while it sends
            await client.send(flood if not is_at_once else get("/topics/a") + flood)
        with trio.fail_after(SECONDS):
            received = await client.closed()  # the reset may overtake the head

    assert not received.endswith(b"0\r\n\r\n")
    assert target.entered == ["/topics"]
    assert target.server.statistics().ended == {EndReason.PROTOCOL_ERROR: 1}


@pytest.mark.parametrize("over", ["memory", "sockets"])
async def test_a_client_that_sends_a_little_more_is_tolerated(make_server: MakeServer, over: str) -> None:
    target = Target(make_server)

    async with connected(target.server, over) as client:
        await client.get("/topics/a")
        for _ in range(10):
            await client.send(b"a" * KIB)
            await trio.testing.wait_all_tasks_blocked()
        await target.server.hub.publish("a", "still here")
        event = await client.event()
        assert target.server.statistics().open_streams == 1

    assert event.data == "still here"

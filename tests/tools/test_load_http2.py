"""`trio-sse load --http2`, against the `h2` library and against scripted servers."""

from __future__ import annotations

import io
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import h2.config
import h2.connection
import h2.events
import pytest
import trio
from click.testing import CliRunner

from trio_sse import Connection, Server
from trio_sse._client import reconnecting
from trio_sse._client.reconnecting import ReconnectPolicy
from trio_sse._http2.error_code import ErrorCode
from trio_sse._http2.frames import (
    Flag,
    FrameReader,
    FrameType,
    Setting,
    encode_frame,
    encode_goaway,
    encode_ping,
    encode_reset,
    encode_settings,
)
from trio_sse._http2.header_block import encode_fields
from trio_sse._tools.load import client, http2, run
from trio_sse._tools.load.report import write_report
from trio_sse._tools.load.run import Load, LoadOptions
from trio_sse._tools.load.target import LoadTarget
from trio_sse._tools.load.totals import Totals
from trio_sse.cli import main

from ..support.certificates import make_contexts
from ..support.waiting import SECONDS, until

HELLO = encode_settings({})
EVENT = b"retry: 20\nid: 7\ndata: x\n\n"
LAST = b"retry: 100000\ndata: y\n\n"

Handler = Callable[[trio.abc.Stream], Awaitable[None]]


@pytest.fixture(autouse=True)
def reconnects_are_not_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients reconnect as soon as a test's server says."""
    monkeypatch.setattr(reconnecting, "FLOOR_SECONDS", 0.0)


def headers(stream: int, *fields: tuple[bytes, bytes], flags: int = Flag.END_HEADERS) -> bytes:
    return encode_frame(FrameType.HEADERS, flags, stream, encode_fields(fields))


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return encode_frame(FrameType.DATA, flags, stream, payload)


def status(code: bytes, kind: bytes = b"text/event-stream") -> tuple[tuple[bytes, bytes], ...]:
    return (b":status", code), (b"content-type", kind)


OK = headers(1, *status(b"200"))


async def load_from(
    handle: Handler,
    enough: Callable[[Totals], object],
    *,
    streams: int = 1,
    tls: ssl.SSLContext | None = None,
) -> Load:
    """Load from a server over one connection until that is enough."""

    async def handle_closing(stream: trio.abc.Stream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):  # the load has closed the connection
                await handle(stream)

    async with trio.open_nursery() as nursery:
        port: int
        if tls is None:
            listeners = await nursery.start(trio.serve_tcp, handle_closing, 0)
            port = listeners[0].socket.getsockname()[1]
        else:
            secured = await nursery.start(trio.serve_ssl_over_tcp, handle_closing, 0, tls)
            port = secured[0].transport_listener.socket.getsockname()[1]
        made = Load(
            LoadOptions(
                url=f"http{'s' if tls else ''}://127.0.0.1:{port}/s?x=1",
                connections=1,
                streams_per_connection=streams,
                is_http2=True,
                duration=SECONDS,
                verify=False,
            )
        )
        nursery.start_soon(made.run, lambda: None)
        await until(lambda: enough(made.totals))
        nursery.cancel_scope.cancel()
    return made


def scripted(*scripts: bytes, requests: int = 1, received: bytearray | None = None) -> Handler:
    """Answer so many requests of a connection by the next of `scripts`, and close; keep the last one open."""
    left = list(scripts)

    async def handle(stream: trio.abc.Stream) -> None:
        got = bytearray() if received is None else received
        while types_of(got).count(FrameType.HEADERS) < requests:
            got += await stream.receive_some()
        await stream.send_all(left.pop(0))
        if left and isinstance(stream, trio.SocketStream):
            await stream.send_eof()
        while more := await stream.receive_some():
            got += more

    return handle


def types_of(received: bytearray) -> list[int]:
    """Return the types of the frames after the preface."""
    reader, types = FrameReader(), []
    reader.feed(bytes(received[24:]))
    while (frame := reader.take()) is not None:
        types.append(frame.type)
    return types


class H2Server:
    """A server by the `h2` library, which sends as much to each stream as its windows allow."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.requests: list[dict[bytes, bytes]] = []
        self.window_updates = 0

    async def handle(self, stream: trio.abc.Stream) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        left: dict[int, bytes] = {}
        while True:
            await stream.send_all(connection.data_to_send())
            for event in connection.receive_data(bytes(await stream.receive_some())):
                if isinstance(event, h2.events.RequestReceived):
                    assert event.headers is not None
                    assert event.stream_id is not None
                    self.requests.append({bytes(name): bytes(value) for name, value in event.headers})
                    connection.send_headers(event.stream_id, status(b"200"))
                    left[event.stream_id] = self.body
                self.window_updates += isinstance(event, h2.events.WindowUpdated)
            for number in list(left):
                while size := min(connection.local_flow_control_window(number), 16_384, len(left[number])):
                    connection.send_data(number, left[number][:size])
                    left[number] = left[number][size:]
                if not left[number]:
                    del left[number]
                    connection.end_stream(number)


async def test_streams_share_a_connection_and_windows_open_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http2, "_STREAM_WINDOW", 40_000)
    monkeypatch.setattr(http2, "_CONNECTION_WINDOW", 90_000)
    event = b"data: " + b"x" * 10_000 + b"\n\n"
    server = H2Server(b"retry: 20\nid: 7\n" + 15 * event)
    context = make_contexts().server
    context.set_alpn_protocols(["h2"])
    made = await load_from(server.handle, lambda totals: totals.events >= 90, streams=3, tls=context)
    assert not made.totals.failures
    assert made.totals.reconnects >= 3  # after the streams' ends, over the same connection
    first, *_, last = server.requests
    assert first[b":path"] == b"/s?x=1"
    assert first[b":scheme"] == b"https"
    assert first[b"accept"] == b"text/event-stream"
    assert b"last-event-id" not in first
    assert last[b"last-event-id"] == b"7"
    assert server.window_updates < made.totals.bytes / 15_000
    out = io.StringIO()
    write_report(made, out)
    assert "connections       1, HTTP/2\n" in out.getvalue()
    assert (made.report()["streams"], made.report()["protocol"]) == (3, "HTTP/2")


@pytest.mark.parametrize("is_secure", [False, True])
async def test_our_own_server_is_loaded(is_secure: bool) -> None:
    server = Server(http2=is_secure, http2_cleartext=not is_secure)

    @server.route("/s")
    async def stream(connection: Connection) -> None:
        await connection.send("x")
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        tls = make_contexts().server if is_secure else None  # its protocols are set
        addresses = await nursery.start(partial(server.serve, "127.0.0.1", 0, ssl_context=tls))
        url = f"http{'s' if is_secure else ''}://127.0.0.1:{addresses[0][1]}/s"
        made = Load(
            LoadOptions(
                url=url,
                connections=2,
                streams_per_connection=5,
                is_http2=True,
                duration=SECONDS,
                verify=False,
            )
        )
        nursery.start_soon(made.run, lambda: None)
        await until(lambda: made.totals.events == 10)
        nursery.cancel_scope.cancel()
    assert made.totals.most_connected == 10
    assert not made.totals.failures


async def test_frames_of_all_kinds_are_understood() -> None:
    block = encode_fields(status(b"200"))
    received = bytearray()
    script = (
        HELLO
        + encode_ping(b"12345678")
        + encode_frame(FrameType.SETTINGS, Flag.ACK, 0)
        + headers(1, *status(b"103"))
        + encode_frame(FrameType.HEADERS, 0, 1, block[:3])
        + encode_frame(FrameType.CONTINUATION, Flag.END_HEADERS, 1, block[3:])
        + headers(9, *status(b"200"))
        + data(9, b"data: of a stream that is not known\n\n")
        + encode_reset(9, ErrorCode.CANCEL)
        + encode_frame(FrameType.PRIORITY, 0, 1, bytes(5))
        + encode_frame(99, 0, 0, b"of an unknown type")
        + data(1, b"\x03data: padded\n\n" + bytes(3), Flag.PADDED)
        + data(1, LAST)
        + headers(1, (b"x-trailer", b"1"), flags=Flag.END_HEADERS | Flag.END_STREAM)
    )
    made = await load_from(
        scripted(script, received=received),
        lambda totals: totals.events == 2 and FrameType.PING in types_of(received),
    )
    assert not made.totals.failures
    assert encode_ping(b"12345678", is_ack=True) in received
    assert encode_frame(FrameType.SETTINGS, Flag.ACK, 0) in received
    assert made.totals.bytes == len(script)


async def test_streams_go_on_after_goaway_and_the_next_one_opens_another_connection() -> None:
    first = HELLO + OK + encode_goaway(1, ErrorCode.NO_ERROR) + data(1, EVENT, Flag.END_STREAM)
    made = await load_from(scripted(first, HELLO + OK + data(1, LAST)), lambda totals: totals.events == 2)
    assert made.totals.reconnects == 1
    assert not made.totals.failures


BROKEN = "the server broke the protocol: "
NO_HTTP2 = "the server does not speak HTTP/2"


def frame(kind: int, payload: bytes, flags: int = Flag.END_HEADERS) -> bytes:
    return encode_frame(kind, flags, 1, payload)


ENDS = Flag.END_STREAM | Flag.END_HEADERS
CUT = "the server cut the stream"
RESET = "the server reset the stream: "
LARGE_BLOCK = frame(FrameType.HEADERS, b"", 0) + 3 * frame(FrameType.CONTINUATION, bytes(16_000), 0)


@pytest.mark.parametrize(
    ("script", "failure", "is_final"),
    [
        (HELLO + OK + encode_reset(1, ErrorCode.CANCEL), RESET + "CANCEL", False),
        (HELLO + frame(FrameType.RST_STREAM, b"\0\0\0c"), RESET + "code 99", False),
        (HELLO + OK, CUT, False),
        (HELLO + OK + encode_goaway(1, ErrorCode.NO_ERROR), CUT, False),
        (
            HELLO + OK + encode_goaway(1, ErrorCode.ENHANCE_YOUR_CALM),
            "the server ended the connection: ENHANCE_YOUR_CALM",
            False,
        ),
        (
            HELLO + encode_goaway(0, ErrorCode.NO_ERROR),
            "the server refused the stream: it ends the connection",
            False,
        ),
        (HELLO + headers(1, (b":status", b"404"), flags=ENDS), "404 Not Found", True),
        (HELLO + headers(1, (b":status", b"299")), "299", True),
        (HELLO + headers(1, (b"a", b"b")), "the response has no status", True),
        (
            HELLO + headers(1, *status(b"200", b"text/html")) + data(1, b"<p>", Flag.END_STREAM),
            "the Content-Type is text/html, not text/event-stream",
            True,
        ),
        (
            HELLO + OK + 320 * data(1, b"data: " + bytes(16_000)),
            "an event of the stream is larger than 4194304 bytes",
            True,
        ),
        (HELLO + headers(1, *status(b"200"), (b"content-length", b"99"), flags=ENDS), CUT, False),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", NO_HTTP2, True),
        (encode_ping(bytes(8)), NO_HTTP2, True),
        (HELLO + b"\xff\xff\xff" + bytes(6), BROKEN + "a frame may have 16384 bytes at most", False),
        (
            HELLO + frame(FrameType.PUSH_PROMISE, bytes(4)),
            BROKEN + "it pushes, although not allowed to",
            False,
        ),
        (HELLO + frame(FrameType.HEADERS, b"\xff" * 6), BROKEN + "a header block is malformed", False),
        (HELLO + LARGE_BLOCK, BROKEN + "a header block is too large", False),
    ],
)
async def test_what_is_not_an_event_stream_is_counted(script: bytes, failure: str, is_final: bool) -> None:
    made = await load_from(scripted(script, script), lambda totals: totals.failures)
    assert set(made.totals.failures) == {failure}
    assert made.totals.gave_up == is_final
    assert made.totals.connected == 0


async def test_a_stream_that_the_server_does_not_allow_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ReconnectPolicy", partial(ReconnectPolicy, 0.02))
    script = (
        encode_settings({Setting.MAX_CONCURRENT_STREAMS: 1}) + OK + encode_reset(3, ErrorCode.REFUSED_STREAM)
    )
    made = await load_from(scripted(script, requests=2), lambda totals: totals.gave_up, streams=2)
    assert made.totals.failures["the server allows 1 streams on a connection"] == 1
    assert made.totals.most_connected == 1


async def test_a_connection_that_ends_is_a_failure_of_each_stream() -> None:
    handle = scripted(HELLO + OK + headers(3, *status(b"200")), HELLO, requests=2)
    made = await load_from(handle, lambda totals: sum(totals.failures.values()) == 2, streams=2)
    assert made.totals.failures == {"the server cut the stream": 2}


async def test_http2_must_be_chosen_by_alpn() -> None:
    async def wait(stream: trio.abc.Stream) -> None:
        await stream.receive_some()

    tls = make_contexts().server  # those that tests share may have served HTTP/2
    made = await load_from(wait, lambda totals: totals.gave_up, tls=tls)
    assert made.totals.failures == {NO_HTTP2: 1}


def test_a_request_has_no_fields_of_a_connection() -> None:
    target = LoadTarget("https://h/\u00e4?b", [("host", "other"), ("Connection", "close"), ("X", "\u00e9")])
    assert target.block("7") == encode_fields(
        [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"other"),
            (b":path", b"/%C3%A4?b"),
            (b"accept", b"text/event-stream"),
            (b"cache-control", b"no-store"),
            (b"user-agent", b"trio-sse load"),
            (b"x", "\u00e9".encode()),
            (b"last-event-id", b"7"),
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--streams-per-connection", "2"], "--streams-per-connection needs --http2"),
        (["--http2", "--streams-per-connection", "0"], "0 is not in the range x>=1"),
        (["--http2"], "--http2 needs its extra: pip install 'trio-sse[http2]'"),
    ],
)
def test_wrong_usage_is_an_error(arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    result = CliRunner().invoke(main, ["load", "http://127.0.0.1:1/", *arguments])
    assert result.exit_code == 2
    assert text in result.output

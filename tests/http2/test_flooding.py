"""Floods: what costs a client little and us much ends the connection; what clients do in earnest does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trio_sse._http2.frames import encode_settings
from trio_sse._http2.limits import Http2Limits
from trio_sse._http2.preface import PREFACE
from trio_sse._http2.protocol import Http2Protocol

from ..support.cases import each_case
from .peer import Peer
from .spec import Case
from .spec.case import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    UNREAD,
    WHOLE,
    block,
    frame,
    post,
    request,
    setting,
    window_update,
)
from .test_spec import feed, new_protocol

LIMITS = Http2Limits(max_streams=20)
RESETS, FRAMES = LIMITS.resets, LIMITS.control_frames
ONE = block(GET)
IDS = range(3, 2**31, 2)
CANCEL = b"\0\0\0\x08"


class Connection:
    """A connection on which stream 1 is a request whose body is open."""

    def __init__(self, *, opened: bytes = request(1, UNREAD, END_HEADERS)) -> None:
        self.protocol: Http2Protocol = new_protocol(LIMITS)
        self.peer = Peer(Case("", "", (b"",)))
        self.most_output = 0
        self.send(PREFACE + encode_settings({}) + opened)

    def send(self, data: bytes, now: float = 0.0) -> None:
        for start in range(0, len(data), 16384):
            output = feed(self.protocol, data[start : start + 16384], now)
            self.most_output = max(self.most_output, len(output))
            self.peer.receive(output)

    def count_until_goaway(self, unit: Callable[[int], bytes], most: int) -> int:
        """Send a flood's units until the connection ends; return how many were acceptable."""
        for sent, stream_id in zip(range(most), IDS, strict=False):
            self.send(unit(stream_id))
            if self.peer.is_finished:
                assert self.peer.seen[-1] == "GOAWAY ENHANCE_YOUR_CALM"
                assert len(self.protocol.streams) <= LIMITS.max_streams
                return sent
        raise AssertionError(f"{most} were acceptable")


def reset(stream_id: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, CANCEL)


def list_of(field: bytes, times: int) -> Callable[[int], bytes]:
    """Return the flood of requests with a header block that repeats some bytes."""
    return lambda id: frame(HEADERS, WHOLE, id, ONE + field * times)


# What is sent again and again, and after how many times the connection ends.
FLOODS: dict[str, tuple[Callable[[int], bytes], int]] = {
    "requests that are reset at once": (lambda id: request(id, UNREAD, END_HEADERS) + reset(id), RESETS),
    "requests beyond the last stream": (lambda id: request(id, UNREAD, END_HEADERS), RESETS + 19),
    "malformed requests": (lambda id: request(id, "x: y"), RESETS),
    "refused requests": (lambda id: request(id, GET + "#"), RESETS),
    "requests that depend on themselves": (
        lambda id: frame(HEADERS, WHOLE | PRIORITIZED, id, id.to_bytes(4) + b"\0" + ONE),
        RESETS,
    ),
    "bodies that are longer than announced": (
        lambda id: request(id, UNREAD + "|content-length: 1", END_HEADERS) + frame(DATA, 0, id, b"ab"),
        RESETS,
    ),
    "resets of a stream that is closed": (lambda _: reset(1), RESETS),
    "windows that are too large": (
        lambda id: request(id, UNREAD, END_HEADERS) + window_update(id, 2**31 - 1),
        RESETS,
    ),
    "increments of zero": (lambda id: request(id, UNREAD, END_HEADERS) + window_update(id, 0), RESETS),
    "PING": (lambda _: frame(PING, 0, 0, bytes(8)), FRAMES),
    "answers to PING": (lambda _: frame(PING, ACK, 0, bytes(8)), FRAMES),
    "SETTINGS": (lambda _: setting((3, 9)), FRAMES - 1),
    "acknowledgements": (lambda _: frame(SETTINGS, ACK, 0), FRAMES),
    "SETTINGS with many values": (lambda _: setting(*[(4, 9)] * 33), 0),
    "SETTINGS that change a small window": (lambda id: setting((4, id % 4)), FRAMES // 2),
    "PRIORITY": (lambda _: frame(PRIORITY, 0, 1, bytes(5)), FRAMES),
    "PRIORITY of idle streams": (lambda id: frame(PRIORITY, 0, id, bytes(5)), FRAMES),
    "GOAWAY": (lambda _: frame(GOAWAY, 0, 0, bytes(8)), FRAMES),
    "unknown frames": (lambda _: frame(99, 0, 1, b"any"), FRAMES),
    "WINDOW_UPDATE of the connection": (lambda _: window_update(0, 1), FRAMES),
    "WINDOW_UPDATE of a stream": (lambda _: window_update(1, 1), FRAMES),
    "WINDOW_UPDATE of a stream that is closed": (lambda _: reset(1) + window_update(1, 1), FRAMES),
    "empty DATA": (lambda _: frame(DATA, 0, 1), FRAMES),
    "DATA that is only padding": (lambda _: frame(DATA, PADDED, 1, bytes(1)), FRAMES),
    "DATA that is only much padding": (lambda _: frame(DATA, PADDED, 1, b"\xff" + bytes(255)), FRAMES),
    "DATA of a stream that we have reset": (
        lambda _: window_update(1, 0) + frame(DATA, 0, 1, b"x"),
        FRAMES // 2,
    ),
    "header blocks of a stream that we have reset": (
        lambda _: frame(HEADERS, WHOLE, 1, b"\x90" * 396),
        FRAMES // 100 + 1,  # the first two are faults
    ),
    "CONTINUATION that is empty": (
        lambda id: frame(CONTINUATION, 0, 3) if id > 3 else frame(HEADERS, 0, 3, ONE),
        1 + LIMITS.continuations,
    ),
    "CONTINUATION that is full": (
        lambda id: frame(CONTINUATION, 0, 3, bytes(16384)) if id > 3 else frame(HEADERS, 0, 3, ONE),
        2,
    ),
    "the same field, by its index": (list_of(b"\x90", 16000), 0),
    "a large field, by its index": (list_of(b"\x40\x01x\x7f\x81\x1e" + b"v" * 3968 + b"\xbe" * 100, 1), 0),
    "fields without a name": (list_of(b"\x00\x00\x00", 5000), 0),
    "many small fields": (list_of(b"\x00\x01x\x01y", 900), FRAMES * 4 // 900 + 1),
}


@pytest.mark.slow
@each_case("name", FLOODS)
def test_a_flood_ends_the_connection(name: str) -> None:
    unit, acceptable = FLOODS[name]
    connection = Connection()

    found = connection.count_until_goaway(unit, 2 * acceptable + 100)

    assert acceptable - 2 <= found <= acceptable + 1 + acceptable // 100
    assert connection.most_output < 4096


def test_requests_after_goaway_end_the_connection() -> None:
    """They may have been on their way, but not for ever."""
    connection = Connection()
    connection.protocol.send_goaway(is_final=True)
    sent = 0

    while not connection.protocol.is_failed and sent < FRAMES:
        sent += 1
        connection.send(request(IDS[sent]))

    assert sent == FRAMES // 2 + 1  # each has four fields


def test_a_window_that_opens_byte_by_byte_ends_the_connection() -> None:
    """Each of its bytes costs a DATA frame, which earns less than that."""
    body = frame(DATA, WHOLE, 1, bytes(4000))
    connection = Connection(opened=setting((4, 0)) + post(1) + body)

    opened = connection.count_until_goaway(lambda _: window_update(1, 1), 2 * FRAMES)

    assert connection.peer.seen.count("1: 1 bytes") in (opened, opened + 1)
    assert opened < FRAMES + 100


def test_the_connections_window_must_not_open_byte_by_byte() -> None:
    connection = Connection(opened=request(1))
    connection.protocol.window = 0

    assert connection.count_until_goaway(lambda _: window_update(0, 1), 2 * FRAMES) < FRAMES + 100


# What clients do in earnest, for a long time: so many units within one second.
EARNEST: dict[str, tuple[Callable[[int], bytes], int]] = {
    "requests": (request, 5_000),
    "requests, and two WINDOW_UPDATEs for each": (
        lambda id: request(id) + window_update(0, 2) + window_update(id, 2),
        2_000,
    ),
    "requests with PRIORITY, and PING": (
        lambda id: frame(PRIORITY, 0, id, bytes(5)) + request(id) + frame(PING, 0, 0, bytes(8)),
        5_000,
    ),
    "streams that are left after they have begun": (
        lambda id: request(id, GET + "stream") + reset(id),
        RESETS - 1,
    ),
    "DATA of one byte": (lambda _: frame(DATA, 0, 1, b"x"), 10_000),
}


@pytest.mark.slow
@each_case("name", EARNEST)
def test_what_clients_do_in_earnest_ends_nothing(name: str) -> None:
    unit, times = EARNEST[name]
    connection = Connection()

    for _, stream_id in zip(range(times), IDS, strict=False):
        connection.send(unit(stream_id))

    assert not connection.protocol.is_failed


def test_streams_may_be_left_as_often_as_they_have_begun() -> None:
    connection = Connection()

    for _, stream_id in zip(range(3 * RESETS), IDS, strict=False):
        connection.send(request(stream_id, GET + "stream"))
        connection.send(reset(stream_id))

    assert not connection.protocol.is_failed
    assert len(connection.protocol.streams) == 1


def test_frames_without_use_may_go_on_for_hours() -> None:
    connection = Connection()

    for second in range(20 * FRAMES):
        connection.send(frame(PING, 0, 0, bytes(8)), now=second / LIMITS.control_rate)

    assert not connection.protocol.is_failed


def test_a_body_that_nobody_reads_uses_up_no_window() -> None:
    connection = Connection()
    body = bytes(16384)

    for _, stream_id in zip(range(200), IDS, strict=False):
        head = request(stream_id, GET.replace("GET", "POST"), END_HEADERS)
        connection.send(head + frame(DATA, 0, stream_id, body) + frame(DATA, 1, stream_id, body))

    assert 400 * len(body) > 4 * LIMITS.connection_window
    assert not connection.protocol.is_failed


def test_a_body_of_tiny_pieces_ends_its_stream() -> None:
    """The bound is that of HTTP/1.1's chunks."""
    connection = Connection()
    tiny = frame(DATA, 0, 1, b"x") * 1000

    for _ in range(17):
        connection.send(tiny)

    assert len(connection.protocol.streams) == 1
    connection.send(tiny)
    assert connection.peer.seen[-1] == "1: ENHANCE_YOUR_CALM"
    assert not connection.protocol.is_failed


def test_tiny_pieces_that_nobody_reads_are_joined() -> None:
    connection = Connection()

    connection.send(frame(DATA, 0, 1, b"xy") * 8000)

    (stream,) = connection.protocol.streams.values()
    assert stream.body is not None
    assert stream.body.pieces is not None
    assert (len(stream.body.pieces), stream.unread) == (4, 16_000)

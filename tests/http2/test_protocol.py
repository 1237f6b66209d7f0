"""The protocol of a connection: its end, and whatever bytes a client may send."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_sse._http2.limits import Http2Limits
from trio_sse._http2.preface import PREFACE

from ..support.cases import each_case
from ..support.shares import examples
from .peer import Peer
from .spec import ALL_CASES, Case
from .spec.case import (
    DATA,
    END_HEADERS,
    GET,
    RST_STREAM,
    UNREAD,
    block,
    frame,
    post,
    request,
    setting,
    stream,
    window_update,
)
from .test_spec import feed, new_protocol

LIMITS = Http2Limits(max_streams=3)
NOTHING = Case("", "", (b"",))


@each_case(
    "late",
    [
        request(5),
        post(5) + frame(DATA, 0, 5, b"abc") + frame(DATA, 1, 5, b"abc"),
        post(5) + window_update(5, 9) + frame(RST_STREAM, 0, 5, b"\0\0\0\x08"),
        post(5) + frame(DATA, 0, 5, b"abc") + request(5, "x-trailer: 1"),
        request(5) + post(7) + frame(DATA, 1, 7, b"abc"),
        b"".join([post(5), *[frame(DATA, 0, 5, bytes(16384))] * 200]),
    ],
)
def test_after_goaway_what_was_on_its_way_is_ignored(late: bytes) -> None:
    """It must not end the streams that are left."""
    protocol, peer = new_protocol(LIMITS), Peer(NOTHING)
    peer.receive(protocol.take_output())
    peer.receive(feed(protocol, PREFACE + setting() + post(1) + stream(3)))
    protocol.send_goaway(is_final=True)
    before = len(peer.seen)

    peer.receive(feed(protocol, late + frame(DATA, 1, 1, b"xyz")))

    assert not protocol.is_failed
    assert peer.seen[before:] == ["GOAWAY NO_ERROR", "1: 200", "1: 3 bytes", "1: end"]
    assert list(protocol.streams) == [3]


def test_all_bodies_together_have_the_connections_window() -> None:
    protocol = new_protocol(Http2Limits(connection_window=100_000))
    bodies = [frame(DATA, 0, number, bytes(10_000)) for number in (1, 3) for _ in range(6)]
    heads = [request(number, UNREAD, END_HEADERS) for number in (1, 3)]
    feed(protocol, PREFACE + setting() + b"".join([*heads, *bodies[:10]]))
    assert not protocol.is_failed
    feed(protocol, bodies[10])
    assert protocol.is_failed


def test_after_goaway_a_request_that_began_before_still_counts() -> None:
    protocol, peer = new_protocol(LIMITS), Peer(NOTHING)
    peer.receive(protocol.take_output())
    peer.receive(feed(protocol, PREFACE + setting()))
    protocol.send_goaway(is_final=False)

    peer.receive(feed(protocol, request(1)))

    assert "1: 200" in peer.seen


IDS = st.integers(0, 9) | st.integers(0, 2**32 - 1)
FRAMES = st.builds(
    frame,
    st.integers(0, 10) | st.integers(0, 255),
    st.sampled_from([0, 1, 4, 5, 0x0D, 0x25, 0x2D]) | st.integers(0, 255),
    IDS,
    st.binary(max_size=30) | st.just(block(GET)) | st.just(bytes(16384)),
)
SENSIBLE = st.sampled_from(
    [
        request(1),
        stream(3),
        post(5),
        request(7, UNREAD, END_HEADERS),
        request(5, "x: trailer"),
        frame(DATA, 0, 5, b"abc"),
        frame(DATA, 1, 5, b"abc"),
        frame(DATA, 0, 7, bytes(16384)),
        window_update(0, 10),
        window_update(3, 2**31 - 1),
        setting((4, 0)),
        setting((1, 0), (4, 100)),
        frame(RST_STREAM, 0, 3, b"\0\0\0\x08"),
        *[part for case in ALL_CASES[::5] for part in case.sent if isinstance(part, bytes)],
    ]
)


@pytest.mark.slow
@given(
    sent=st.lists(SENSIBLE | SENSIBLE | FRAMES | st.binary(max_size=20), max_size=15), cut=st.integers(1, 50)
)
@settings(max_examples=examples(200))
def test_whatever_is_sent_the_protocol_keeps_its_bounds(sent: list[bytes], cut: int) -> None:
    protocol, peer = new_protocol(LIMITS), Peer(NOTHING)
    peer.receive(protocol.take_output())
    data = PREFACE + setting() + b"".join(sent)
    size = max(cut, len(data) // 40)

    for start in range(0, len(data), size):
        peer.receive(feed(protocol, data[start : start + size]))
        assert len(protocol.streams) <= LIMITS.max_streams
        assert protocol.window <= 2**31 - 1
        unread = sum(stream.unread for stream in protocol.streams.values())
        assert unread <= LIMITS.max_streams * LIMITS.stream_window

    assert peer.is_finished == protocol.is_failed
    protocol.lose_all()
    assert not protocol.streams

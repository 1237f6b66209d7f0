"""RFC 9113 and RFC 7541, section by section, on the protocol alone."""

from __future__ import annotations

import pytest

from trio_sse._http.request_head import HeadLimits, RequestHead
from trio_sse._http2.error_code import ErrorCode
from trio_sse._http2.events import RequestReceived
from trio_sse._http2.frames import HEAD
from trio_sse._http2.header_block import encode_fields
from trio_sse._http2.limits import Http2Limits
from trio_sse._http2.protocol import Http2Protocol

from ..support.cases import Cases
from .peer import Peer, probe
from .spec import ALL_CASES, Case
from .spec.case import MAX_STREAMS


class Handler:
    """Answers one request, as the server of the cases does, within the client's windows."""

    def __init__(self, protocol: Http2Protocol, event: RequestReceived) -> None:
        self.protocol, self.stream, self.head = protocol, event.stream, event.head
        self.stream.observer = self
        self._body = bytearray()
        self._is_answered = False
        self.on_readable()

    def on_readable(self) -> None:
        head = self.head
        if self._is_answered:
            return
        if not isinstance(head, RequestHead):
            self._answer(head.status)
        elif head.path == "/echo":
            while data := self.stream.take_body(1 << 20):
                self._body += data
                self.protocol.consumed(self.stream, len(data))
            if self.stream.peer_has_ended:
                self._answer(200)
        elif head.path == "/unread":
            pass
        elif head.path == "/stream":
            self._answer(200, is_end=False)
        else:
            self._body += b"ok" if head.path == "/" and head.method == "GET" else b""
            self._answer(200 if head.path in ("/", "*") else 404)

    def _answer(self, status: int, *, is_end: bool = True) -> None:
        self._is_answered = True
        block = encode_fields([(b":status", b"%d" % status)])
        self.protocol.send_head(self.stream, block, is_interim=False, is_end=False)
        if is_end:
            self._send()

    def on_writable(self) -> None:
        if self._is_answered and not self.stream.has_ended and self._body:
            self._send()

    def _send(self) -> None:
        size = min(len(self._body), 16384, self.stream.send_window, self.protocol.window)
        if size > 0:
            self.protocol.add_output(HEAD.pack(size << 8, 0, self.stream.id), bytes(self._body[:size]))
            del self._body[:size]
            self.stream.send_window -= size
            self.protocol.window -= size
        if not self._body:
            self.protocol.end(self.stream)
            if not self.stream.peer_has_ended:
                self.protocol.reset(self.stream, ErrorCode.NO_ERROR)

    def on_lost(self) -> None: ...


def new_protocol(limits: Http2Limits) -> Http2Protocol:
    return Http2Protocol(
        limits, HeadLimits(), allows_websocket=True, on_output=lambda: None, on_closed=lambda: None, now=0.0
    )


def feed(protocol: Http2Protocol, data: bytes, now: float = 0.0) -> bytes:
    """Take bytes, answer the requests, and return what is to be sent."""
    for event in protocol.receive(data, now):
        if isinstance(event, RequestReceived) and not event.stream.is_lost:
            Handler(protocol, event)
    return protocol.take_output()


@pytest.mark.slow
def test_the_protocol_does_what_the_rfcs_say() -> None:
    with Cases() as cases:
        for case in ALL_CASES:
            with cases.case(f"{case.section}: {case.name}"):
                run(case, 1 << 20)
                run(case, 1)  # byte by byte


def run(case: Case, size: int) -> None:
    protocol, peer = new_protocol(Http2Limits(max_streams=MAX_STREAMS)), Peer(case)
    peer.receive(protocol.take_output())

    for part in [*peer.parts(), probe()]:
        if isinstance(part, str):
            assert part in peer.seen
            continue
        for start in range(0, len(part), size):
            peer.receive(feed(protocol, part[start : start + size]))

    assert (peer.missing, peer.surprises()) == (set(), []), peer.seen
    assert peer.is_probed or peer.is_finished
    assert peer.is_finished == protocol.is_failed

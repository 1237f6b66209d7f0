"""Our protocol beside the `h2` library, as an independent client without I/O."""

from __future__ import annotations

from collections.abc import Iterable

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_sse._http.response import encode_head
from trio_sse._http2.events import RequestReceived
from trio_sse._http2.limits import Http2Limits
from trio_sse._http2.protocol import Http2Protocol
from trio_sse._http2.response_head import translate_head

from ..support.shares import examples
from .test_spec import Handler, new_protocol

REQUEST = [(":method", "GET"), (":scheme", "https"), (":authority", "test"), (":path", "/")]
POST = [(":method", "POST"), *REQUEST[1:3], (":path", "/echo")]


class Pair:
    """A client and our protocol, each of which receives what the other one sends."""

    def __init__(self, **initial: int) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding="latin-1")
        self.client = h2.connection.H2Connection(config)
        codes = h2.settings.SettingCodes
        self.client.local_settings = h2.settings.Settings(
            client=True, initial_values={getattr(codes, name): value for name, value in initial.items()}
        )
        self.client.initiate_connection()
        self.protocol: Http2Protocol = new_protocol(Http2Limits())
        self.events: list[h2.events.Event] = []
        self.requests: list[RequestReceived] = []
        self.exchange()

    def exchange(self) -> None:
        """Pass bytes until neither has any."""
        while True:
            for event in self.protocol.receive(self.client.data_to_send(), 0.0):
                if isinstance(event, RequestReceived):
                    self.requests.append(event)
            output = self.protocol.take_output()
            self.events += self.client.receive_data(output)
            if not output:
                return

    def ask(self, headers: Iterable[tuple[str, str]] = REQUEST, *, ends: bool = True) -> RequestReceived:
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, headers, end_stream=ends)
        self.exchange()
        return self.requests[-1]

    def responses(self) -> list[list[tuple[str, str]]]:
        found = [event.headers for event in self.events if isinstance(event, h2.events.ResponseReceived)]
        return [[(str(name), str(value)) for name, value in headers] for headers in found]


NAMES = st.sampled_from(["Date", "Content-Type", "Set-Cookie", "Vary", "X-Any", "ETag", "Location"])
VALUES = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40
)
TYPICAL = st.sampled_from(["no-cache", "text/event-stream", "Accept", "gzip, deflate"])
HEADS = st.tuples(
    st.sampled_from([200, 204, 206, 304, 400, 404, 500, 418]),
    st.lists(st.tuples(NAMES, VALUES | TYPICAL), max_size=6),
)


@given(heads=st.lists(HEADS, min_size=1, max_size=4), table_size=st.sampled_from([4096, 0, 64, 65536]))
@settings(max_examples=examples(50))
def test_h2_reads_the_heads_that_we_write(
    heads: list[tuple[int, list[tuple[str, str]]]], table_size: int
) -> None:
    pair = Pair(HEADER_TABLE_SIZE=table_size)

    for status, fields in heads:
        stream = pair.ask().stream
        head = translate_head(encode_head(status, fields, "now"), is_websocket=False)
        pair.protocol.send_head(stream, head.block, is_interim=False, is_end=True)
    pair.exchange()

    expected = [
        [(":status", str(status)), ("date", "now"), *((name.lower(), value) for name, value in fields)]
        for status, fields in heads
    ]
    assert pair.responses() == expected


@pytest.mark.slow
def test_a_head_that_is_larger_than_a_frame_is_sent_in_several() -> None:
    pair = Pair()
    value = "~" * 40_000
    head = translate_head(encode_head(200, {"X-Large": value}), is_websocket=False)

    pair.protocol.send_head(pair.ask().stream, head.block, is_interim=False, is_end=True)
    pair.exchange()

    assert ("x-large", value) in pair.responses()[0]


def test_interim_heads_come_before_the_final_one() -> None:
    pair = Pair()
    stream = pair.ask().stream
    for status in (100, 103, 200):
        head = translate_head(encode_head(status, {}), is_websocket=False)
        pair.protocol.send_head(stream, head.block, is_interim=head.is_interim, is_end=not head.is_interim)
    pair.exchange()

    kinds = [type(event).__name__ for event in pair.events]
    assert kinds.count("InformationalResponseReceived") == 2
    assert kinds[-1] == "StreamEnded"


@pytest.mark.parametrize("pad_length", [None, 0, 255])
def test_an_upload_of_many_windows_comes_back(pad_length: int | None) -> None:
    pair = Pair(INITIAL_WINDOW_SIZE=2**31 - 1)
    pair.client.increment_flow_control_window(2**30)
    handler = Handler(pair.protocol, pair.ask(POST, ends=False))
    sent = bytes(range(256)) * 8192

    for start in range(0, len(sent), 8192):
        assert pair.client.local_flow_control_window(1) > 9000  # opened as the handler reads
        pair.client.send_data(1, sent[start : start + 8192], pad_length=pad_length)
        pair.exchange()
    pair.client.send_headers(1, [("x-checksum", "1")], end_stream=True)  # trailers
    pair.exchange()
    for _ in range(len(sent) // 16384):  # a frame each time
        handler.on_writable()
        pair.exchange()

    received = b"".join(event.data for event in pair.events if isinstance(event, h2.events.DataReceived))
    assert received == sent
    assert not pair.protocol.streams


def test_no_goaway_and_no_reset_were_needed() -> None:
    pair = Pair()
    for _ in range(500):
        Handler(pair.protocol, pair.ask())
    pair.exchange()

    kinds = {type(event).__name__ for event in pair.events}
    assert not {"ConnectionTerminated", "StreamReset"} & kinds
    assert len(pair.responses()) == 500

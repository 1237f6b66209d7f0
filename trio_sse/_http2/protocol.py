"""The HTTP/2 protocol of one connection, as its server, without I/O (RFC 9113).

`receive` takes bytes and returns events. What is to be sent waits in `output` (see `output.py`). Our side
writes DATA frames into it directly, through `Http2StreamTransport`, which is why the `h2` library cannot keep
the state: it would never learn of them, and refuse the peer's WINDOW_UPDATEs after 2 GiB.

The states of a stream, as the table `streams` and the flags of its `Http2Stream` describe them:

==================  ================================  ======================================================
state (RFC, 5.1)    here                              frames of the peer
==================  ================================  ======================================================
idle                number above `last_stream_id`     HEADERS open it; others are faults of the connection
open                in the table                      DATA, HEADERS as trailers, WINDOW_UPDATE, RST_STREAM
half-closed         in the table, `peer_has_ended`    WINDOW_UPDATE and RST_STREAM; others are STREAM_CLOSED
closed, by us       in `_reset_by_us`                 are ignored: they were sent before our RST_STREAM came
closed              in neither                        WINDOW_UPDATE, PRIORITY and RST_STREAM are ignored;
                                                      others are faults of the connection
==================  ================================  ======================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, final

from .._http.exceptions import HTTPException
from .._http.request import NO_HEADERS, are_same
from .._http.request_head import HeadLimits, RequestHead
from .block_assembler import BlockAssembler, HeaderBlock
from .error_code import ConnectionFault, ErrorCode, StreamFault
from .events import Event, PingAnswered, RequestReceived, WindowOpened
from .floods import FloodGuard, is_useless
from .frames import (
    Flag,
    Frame,
    FrameReader,
    FrameType,
    encode_ping,
    encode_reset,
)
from .header_decoder import HeaderDecoder
from .limits import Http2Limits
from .output import Http2Output
from .payloads import (
    MAX_WINDOW,
    SETTING_SIZE,
    check_priority,
    data_of,
    depends_on_itself,
    goaway_of,
    increment_of,
    ping_of,
    reset_code_of,
    settings_of,
)
from .preface import PREFACE
from .request_body import RequestBody
from .request_head import check_trailers, make_request_head
from .stream import Http2Stream

# Clients skip no numbers; so many ranges of them are distinguished from those of closed streams.
_MOST_SKIPPED = 4

_SELF = "a stream must not depend on itself"


@final
class Http2Protocol(Http2Output):
    """One connection.

    Args:
        head_limits: the bounds on a request's head.
        now: the time, in seconds of any clock.

    Attributes:
        has_settings: the peer has sent its preface and its settings, so that it speaks HTTP/2.
    """

    def __init__(
        self,
        limits: Http2Limits,
        head_limits: HeadLimits,
        *,
        allows_websocket: bool,
        on_output: Callable[[], None],
        on_closed: Callable[[], None],
        now: float,
    ) -> None:
        super().__init__(limits, allows_websocket=allows_websocket, on_output=on_output, on_closed=on_closed)
        self._head_limits = head_limits
        self._allows_websocket = allows_websocket
        self.has_settings = False
        self._now = now
        self._preface_left = PREFACE
        self._reader = FrameReader()
        self._floods = FloodGuard(limits, now)
        self._decoder = HeaderDecoder(limits)
        self._blocks = BlockAssembler(limits)
        self._skipped: tuple[range, ...] = ()  # numbers of streams that were never used
        self._events: list[Event] = []
        self._last_headers = NO_HEADERS  # of a request

    def receive(self, data: bytes, now: float) -> Sequence[Event]:
        """Take bytes of the peer, and return what they mean; after a fault, what came before it.

        A fault of a stream is answered with RST_STREAM, and one of the connection with GOAWAY; then
        `is_failed` is set.
        """
        self._events = []
        if self.is_failed:
            return ()
        self._now = now
        try:
            if self._preface_left:
                data = self._take_preface(data)
            self._reader.feed(data)
            while not self.is_failed and (frame := self._reader.take()) is not None:
                self._receive_frame(frame)
        except ConnectionFault as fault:
            self.fail(fault)
        events, self._events = self._events, []
        return events

    def _take_preface(self, data: bytes) -> bytes:
        size = min(len(data), len(self._preface_left))
        if data[:size] != self._preface_left[:size]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection preface is wrong")
        self._preface_left = self._preface_left[size:]
        return data[size:]

    def _receive_frame(self, frame: Frame) -> None:
        if not self.has_settings and (frame.type != FrameType.SETTINGS or frame.flags & Flag.ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")
        self._blocks.check(frame)
        receive = self._RECEIVERS.get(frame.type)
        if receive is None or is_useless(frame):
            self._floods.spend(self._now, self.earned)
        if receive is None:
            return  # unknown frames are ignored (RFC 9113, 5.5)
        try:
            receive(self, frame)
        except StreamFault as fault:
            self._floods.spend_reset(self._now)
            self._fail_stream(fault)

    def _fail_stream(self, fault: StreamFault) -> None:
        stream = self.streams.get(fault.stream_id)
        if fault.stream_id > self.last_stream_id:  # idle: RST_STREAM must not be sent (RFC 9113, 6.4)
            raise ConnectionFault(fault.code, fault.text)
        if stream is None:
            self._remember_reset(fault.stream_id)
            self.add_output(encode_reset(fault.stream_id, fault.code))
        else:
            self.reset(stream, fault.code)
            self._lose(stream)

    # Frames of the connection

    def _receive_settings(self, frame: Frame) -> None:
        if len(frame.payload) > self._limits.settings * SETTING_SIZE:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a frame has too many settings")
        settings = settings_of(frame)
        if not frame.flags & Flag.ACK:
            self.has_settings = True
            changed = self.apply_settings(settings)
            if changed:
                self._floods.spend(self._now, self.earned, changed)

    def _receive_ping(self, frame: Frame) -> None:
        data = ping_of(frame)
        if frame.flags & Flag.ACK:
            self._events.append(PingAnswered(data))
        else:
            self.add_output(encode_ping(data, is_ack=True))

    def _receive_goaway(self, frame: Frame) -> None:
        goaway_of(frame)  # the peer will close the connection when its streams have ended

    def _receive_window_update(self, frame: Frame) -> None:
        if not frame.stream_id:
            self.open_connection_window(increment_of(frame))
            self._events.append(WindowOpened())
            return
        stream = self._find(frame, "WINDOW_UPDATE")
        increment = increment_of(frame)
        if stream is not None:
            if stream.send_window + increment > MAX_WINDOW:
                raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
            self.open_window(stream, increment)

    # Frames of streams

    def _find(self, frame: Frame, what: str) -> Http2Stream | None:
        """Return the stream of a frame that must not be the first one; `None` if it is closed or ignored."""
        stream = self.streams.get(frame.stream_id)
        if stream is None and not (
            frame.stream_id % 2 and not self.last_stream_id < frame.stream_id <= self.last_accepted_id
        ):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{what} on a stream that was never opened")
        return stream

    def _receive_priority(self, frame: Frame) -> None:
        check_priority(frame)
        if depends_on_itself(frame):
            raise StreamFault(frame.stream_id, ErrorCode.PROTOCOL_ERROR, _SELF)

    def _receive_reset(self, frame: Frame) -> None:
        reset_code_of(frame)
        stream = self._find(frame, "RST_STREAM")
        if stream is None or not stream.is_head_sent:  # a response that has begun is worth its request
            self._floods.spend_reset(self._now)
        if stream is not None:
            self._forget(stream)
            self._lose(stream)

    def _receive_push_promise(self, frame: Frame) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client must not push")

    def _receive_data(self, frame: Frame) -> None:
        data = data_of(frame)
        stream = self._find(frame, "DATA")
        size = len(frame.payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is exceeded")
        if stream is None or stream.peer_has_ended:
            self._consumed(size)
            if stream is not None:
                raise StreamFault(stream.id, ErrorCode.STREAM_CLOSED, "DATA after the end of the stream")
            self._ignore(frame.stream_id, "DATA")
            return
        body = stream.body
        assert body is not None  # the request goes on
        if not body.count_received(size):
            self._consumed(size)
            raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window is exceeded")
        if len(data) != size:
            self.consumed(stream, size - len(data))
        is_end = bool(frame.flags & Flag.END_STREAM)
        self.work += bool(data)
        try:
            body.add(data, is_end=is_end)
        except StreamFault:
            self._consumed(len(data))
            raise
        if is_end:
            self._end_of_peer(stream)
        if stream.observer is not None and (data or is_end):
            stream.observer.on_readable()

    def _end_of_peer(self, stream: Http2Stream) -> None:
        stream.peer_has_ended = True
        if stream.has_ended:
            self._forget(stream)

    def _ignore(self, stream_id: int, what: str, fields: int = 0) -> None:
        """Ignore a frame that was sent before our RST_STREAM or GOAWAY arrived; refuse any other.

        It counts as a frame without use: the peer may go on sending such frames for as long as it wants.
        """
        if stream_id not in self._reset_by_us and stream_id <= self.last_accepted_id:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"{what} on a stream that is closed")
        self._floods.spend_ignored(self._now, self.earned, fields)

    # Header blocks

    def _receive_headers(self, frame: Frame) -> None:
        if (block := self._blocks.begin(frame)) is not None:
            self._receive_block(block)

    def _receive_continuation(self, frame: Frame) -> None:
        if (block := self._blocks.add(frame)) is not None:
            self._receive_block(block)

    def _receive_block(self, block: HeaderBlock) -> None:
        # Every block is decoded: the next ones depend on it (RFC 9113, 4.3).
        fields = self._decoder.decode(block.data)
        if block.depends_on_itself:
            self.last_stream_id = max(self.last_stream_id, block.stream_id)
            raise StreamFault(block.stream_id, ErrorCode.PROTOCOL_ERROR, _SELF)
        stream = self.streams.get(block.stream_id)
        if stream is not None:
            self._receive_trailers(stream, block, fields)
        elif block.stream_id > self.last_stream_id:
            self._open(block, fields)
        elif any(block.stream_id in skipped for skipped in self._skipped):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the numbers of streams must grow")
        else:
            self._ignore(block.stream_id, "HEADERS", len(fields))

    def _open(self, block: HeaderBlock, fields: Sequence[tuple[bytes, bytes]]) -> None:
        stream_id = block.stream_id
        if stream_id > self.last_accepted_id:  # the peer will send the request elsewhere
            self._ignore(stream_id, "HEADERS", len(fields))
            return
        if stream_id > self.last_stream_id + 2:
            self._skipped = (*self._skipped[-_MOST_SKIPPED:], range(self.last_stream_id + 1, stream_id))
        self.last_stream_id = stream_id
        if len(self.streams) >= self._limits.max_streams:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, "too many streams")
        head: RequestHead | HTTPException
        is_websocket = False
        try:
            head = make_request_head(
                fields,
                self._head_limits,
                is_complete=block.is_end,
                allows_websocket=self._allows_websocket,
                stream_id=stream_id,
            )
            self._share_headers(head)
            is_websocket = any(name == b":protocol" for name, _ in fields)
        except HTTPException as refusal:
            self._floods.spend_refusal(self._now, self.earned, len(fields))
            head = refusal
        self.work += 1
        body = None if block.is_end else RequestBody(stream_id, self._limits.stream_window)
        if body is not None and isinstance(head, RequestHead) and not is_websocket:
            body.expect(head.content_length)
        stream = self.streams[stream_id] = Http2Stream(stream_id, self.initial_window, body)
        self._events.append(RequestReceived(stream, head, is_websocket))

    def _share_headers(self, head: RequestHead) -> None:
        """Let a request share its fields with the last one. A browser's are nearly always the same."""
        if are_same(head.headers, self._last_headers):
            head.headers = self._last_headers
        else:
            self._last_headers = head.headers

    def _receive_trailers(
        self, stream: Http2Stream, block: HeaderBlock, fields: Sequence[tuple[bytes, bytes]]
    ) -> None:
        if stream.peer_has_ended:
            raise StreamFault(stream.id, ErrorCode.STREAM_CLOSED, "HEADERS after the end of the stream")
        if not block.is_end:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "trailers must end the stream")
        check_trailers(fields, stream.id)
        assert stream.body is not None  # the request goes on
        if not stream.body.is_whole:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "the body is shorter than announced")
        self._end_of_peer(stream)
        if stream.observer is not None:
            stream.observer.on_readable()

    _RECEIVERS: ClassVar = {
        FrameType.DATA: _receive_data,
        FrameType.HEADERS: _receive_headers,
        FrameType.PRIORITY: _receive_priority,
        FrameType.RST_STREAM: _receive_reset,
        FrameType.SETTINGS: _receive_settings,
        FrameType.PUSH_PROMISE: _receive_push_promise,
        FrameType.PING: _receive_ping,
        FrameType.GOAWAY: _receive_goaway,
        FrameType.WINDOW_UPDATE: _receive_window_update,
        FrameType.CONTINUATION: _receive_continuation,
    }

"""The side of an HTTP/2 connection that sends: its open streams, its windows, and what waits to be sent."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from .error_code import ConnectionFault, ErrorCode
from .frames import (
    SETTINGS_ACK,
    Flag,
    FrameType,
    Setting,
    encode_block,
    encode_frame,
    encode_goaway,
    encode_ping,
    encode_reset,
    encode_settings,
    encode_window_update,
)
from .header_block import EMPTY_TABLE
from .limits import Http2Limits
from .payloads import MAX_WINDOW
from .stream import Http2Stream

# The window of each stream and of the connection before anybody changes it (RFC 9113, 6.9.2), and the size of
# each header table (6.5.2).
_INITIAL_WINDOW = 65_535
_TABLE_SIZE = 4096

# How many streams that we have reset are remembered, to ignore what the peer had sent them before.
_MOST_RESET = 1024


class Http2Output:
    """What one connection sends, beside the DATA frames that streams add by themselves.

    Args:
        allows_websocket: whether streams may become WebSockets (RFC 8441).
        on_output: called when something has been added to the output.
        on_closed: called when a stream has left the table.

    Attributes:
        streams: the open streams, by their numbers.
        answered: those that have left the table with their last byte, and are still served.
        window: how many bytes of DATA the peer accepts now, on all streams together.
        output: the frames that wait to be sent, in order; `output_size` has their bytes.
        last_stream_id: the highest number of a stream that the peer has opened.
        last_accepted_id: the highest number that GOAWAY has allowed.
        initial_window: how many bytes of DATA the peer accepts at first on a new stream.
        work: how many requests and DATA frames were received that are of use.
        announces_table: the peer wants to know, with the next head, that its table is not used.
        is_failed: a fault of the peer has ended the connection; GOAWAY is in the output.
    """

    def __init__(
        self,
        limits: Http2Limits,
        *,
        allows_websocket: bool,
        on_output: Callable[[], None],
        on_closed: Callable[[], None],
    ) -> None:
        self.streams: dict[int, Http2Stream] = {}
        self.answered: dict[Http2Stream, None] = {}
        self.window = self.initial_window = _INITIAL_WINDOW
        self.output: list[bytes | memoryview] = []
        self.output_size = 0
        self.last_stream_id = 0
        self.last_accepted_id = MAX_WINDOW
        self.work = 0
        self.announces_table = False
        self.is_failed = False
        self._limits = limits
        self._on_output = on_output
        self._on_closed = on_closed
        self._receive_window = limits.connection_window
        self._opened = _INITIAL_WINDOW  # that of the peer, if we had sent nothing
        self._credit = 0  # bytes of bodies that were taken, and not announced to the peer
        self._reset_by_us: OrderedDict[int, None] = OrderedDict()
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: limits.max_streams,
            Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
            Setting.MAX_HEADER_LIST_SIZE: limits.header_list_size,
        }
        if allows_websocket:
            settings[Setting.ENABLE_CONNECT_PROTOCOL] = 1
        self.add_output(
            encode_settings(settings), encode_window_update(0, limits.connection_window - _INITIAL_WINDOW)
        )

    def add_output(self, *parts: bytes | memoryview) -> None:
        """Add bytes to the output."""
        self.output += parts
        self.output_size += sum(map(len, parts))
        self._on_output()

    def take_output(self) -> bytes:
        """Return what waits to be sent, which is then the caller's."""
        output, self.output = self.output, []
        self.output_size = 0
        return b"".join(output)

    def send_head(self, stream: Http2Stream, block: bytes, *, is_interim: bool, is_end: bool) -> None:
        """Send a response's head."""
        stream.is_head_sent = not is_interim
        if is_end:
            self.note_end(stream)
        if self.announces_table:  # after it has been made smaller (RFC 9113, 4.3.1)
            self.announces_table = False
            block = EMPTY_TABLE + block
        self.add_output(encode_block(stream.id, block, ends_stream=is_end))

    def end(self, stream: Http2Stream) -> None:
        """End our side of a stream whose response is complete."""
        if not (stream.has_ended or stream.is_closed):
            self.note_end(stream)
            self.add_output(encode_frame(FrameType.DATA, Flag.END_STREAM, stream.id))

    def note_end(self, stream: Http2Stream) -> None:
        """Record that our side of a stream ends with a frame that the caller sends."""
        stream.has_ended = True
        if stream.peer_has_ended:
            self._forget(stream)
            if stream.observer is not None:
                self.answered[stream] = None  # an app may not know yet that its response has ended

    def reset(self, stream: Http2Stream, code: ErrorCode) -> None:
        """End a stream at once, in both directions."""
        if not stream.is_closed:
            self.add_output(self.withdraw(stream, code))

    def withdraw(self, stream: Http2Stream, code: ErrorCode) -> bytes:
        """End a stream that is open, as `reset` does; return the frame that tells the peer."""
        self._forget(stream)
        self._remember_reset(stream.id)
        return encode_reset(stream.id, code)

    def _forget(self, stream: Http2Stream) -> None:
        """Let a stream leave the table. What nobody has read of its body holds no window any more."""
        stream.is_closed = True
        self._consumed(stream.unread)
        del self.streams[stream.id]
        self._on_closed()

    def _remember_reset(self, stream_id: int) -> None:
        self._reset_by_us[stream_id] = None
        if len(self._reset_by_us) > _MOST_RESET:
            self._reset_by_us.popitem(last=False)

    def send_ping(self, data: bytes) -> None:
        """Ask the peer for an answer."""
        self.add_output(encode_ping(data))

    def send_goaway(self, *, is_final: bool) -> None:
        """Ask the peer to open no more streams; those that are on their way count, unless it is final."""
        if is_final:
            self.last_accepted_id = self.last_stream_id
        self.add_output(encode_goaway(self.last_accepted_id, ErrorCode.NO_ERROR))

    def fail(self, fault: ConnectionFault) -> None:
        """End the connection because of a fault of the peer."""
        if not self.is_failed:
            self.is_failed = True
            self.add_output(encode_goaway(self.last_stream_id, fault.code, fault.text.encode()))

    # The peer's windows

    def apply_settings(self, settings: Sequence[tuple[int, int]]) -> int:
        """Apply settings of the peer, and acknowledge them; return how many streams' windows have changed."""
        window = self.initial_window
        for name, value in settings:
            if name == Setting.INITIAL_WINDOW_SIZE:
                window = value
            elif name == Setting.HEADER_TABLE_SIZE and value < _TABLE_SIZE:
                self.announces_table = True
        change, self.initial_window = window - self.initial_window, window
        streams = list(self.streams.values()) if change else []
        for stream in streams:
            self.open_window(stream, change)
        self.add_output(SETTINGS_ACK)
        return len(streams)

    def open_window(self, stream: Http2Stream, change: int) -> None:
        """Change how much the peer accepts on a stream."""
        stream.send_window += change
        if stream.send_window > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")
        if stream.send_window > 0 and stream.observer is not None:
            stream.observer.on_writable()

    def open_connection_window(self, increment: int) -> None:
        """Change how much the peer accepts on all streams together."""
        self.window += increment
        self._opened += increment
        if self.window > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")

    @property
    def earned(self) -> float:
        """How many frames without use the peer may send for what was done; see `floods.py`.

        What was sent shows in the window: nothing has to be counted where it is sent.
        """
        limits = self._limits
        return self.work * limits.frames_per_work + (self._opened - self.window) / limits.bytes_per_frame

    # What the handlers of streams have taken

    def consumed(self, stream: Http2Stream, size: int) -> None:
        """Open the windows by as many bytes of a body as were taken."""
        if stream.is_closed:
            return  # they have been counted
        assert stream.body is not None
        credit = stream.body.take_credit(size, self._limits.stream_window // 2)
        if credit and not stream.peer_has_ended:
            self.add_output(encode_window_update(stream.id, credit))
        self._consumed(size)

    def _consumed(self, size: int) -> None:
        self._credit += size
        if self._credit >= self._limits.connection_window // 2:
            self._receive_window += self._credit
            self.add_output(encode_window_update(0, self._credit))
            self._credit = 0

    # The end of the peer

    def _lose(self, stream: Http2Stream) -> None:
        stream.is_lost = True
        if stream.observer is not None:
            stream.observer.on_lost()

    def lose_all(self) -> None:
        """Record that the peer has disconnected."""
        while self.answered:
            self._lose(self.answered.popitem()[0])
        for stream in list(self.streams.values()):
            self._forget(stream)
            self._lose(stream)

"""What clients receive of a run: the types and the data of the events.

==========  ==================================================================================================
`run`       first on each stream that begins at the start: `{"id": ..., "status": ..., "created_at": ...}`
`text`      a text as it is so far, which replaces what the client has of it: `{"text": ..., "name": ...}`
`append`    a piece that the text grows by: `{"text": ..., "name": ...}`; without `name` it is the main text
`state`     the newest state, any JSON value
`end`       last: `{"status": ..., "reason": ..., "result": ...}`; without a reason or result if it has none
others      what the run has emitted, under its own types
==========  ==================================================================================================

Each event's id is the position after it (see `position`). A client that reconnects with it receives what
follows, so it must keep what it has. One that comes without an id, or with one that does not fit, receives
`run` and `text` first, and starts anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

from .._wire.event import ServerSentEvent, encode_parts
from .._wire.json_text import compact_json, join_surrogates, replace_surrogates
from .._wire.message import Framing, frame
from .._wire.websocket_frames import event_frame
from .position import Position, format_position

#: The name of the text that `append` grows, unless another is asked for.
MAIN_TEXT = "text"

#: The types that the protocol uses, so that a run cannot emit them.
RESERVED = frozenset({"run", "text", "append", "state", "end", "reset", "trio-sse.cursor"})


class RunEvent(NamedTuple):
    """An event of a run, and the position after it."""

    event: str | None
    data: str
    position: Position


@final
class RunEvents:
    """Events of a run that are written together, in frames that all their viewers share."""

    __slots__ = ("__weakref__", "_events", "_framed", "_run_id", "count", "position")

    def __init__(self, run_id: str, events: Sequence[RunEvent]) -> None:
        self._run_id = run_id
        self._events = events
        self._framed: list[bytes | None] = [None] * len(Framing)
        self.count = len(events)
        self.position = events[-1].position

    def framed(self, framing: Framing) -> bytes:
        """Return their bytes in this framing."""
        made = self._framed[framing]
        if made is None:
            made = self._framed[framing] = self._frame(framing)
        return made

    def _frame(self, framing: Framing) -> bytes:
        id = self._run_id
        if framing is Framing.WEBSOCKET:
            return b"".join(
                [event_frame(data, event, format_position(id, at), None) for event, data, at in self._events]
            )
        wires = [_encode(event, data, format_position(id, at)) for event, data, at in self._events]
        return frame(b"".join(wires), framing)


def event_text(data: object, event: str | None) -> str:
    """Return the data of an event that a run emits, checked as that of a `ServerSentEvent`.

    It may have lone surrogates: a text may be split anywhere, and the other half may come next.
    """
    try:
        return ServerSentEvent(data, event=event).text()
    except ValueError:
        if not isinstance(data, str) or (whole := replace_surrogates(data)) == data:
            raise
    ServerSentEvent(whole, event=event)
    return join_surrogates(str.__str__(data).replace("\r\n", "\n").replace("\r", "\n"))


def _encode(event: str | None, data: str, id: str) -> bytes:
    try:
        return encode_parts(data, event, id)
    except UnicodeEncodeError:
        return encode_parts(replace_surrogates(data), event, id)


def text_data(name: str, text: bytes | bytearray) -> str:
    """Return the data of a `text` or `append`."""
    # To encode a `str` takes a fraction of the time that a `dict` takes.
    encoded = compact_json(text.decode("utf-8", "surrogatepass"))
    if name == MAIN_TEXT:
        return f'{{"text":{encoded}}}'
    return f'{{"text":{encoded},"name":{compact_json(name)}}}'

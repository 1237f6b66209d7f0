"""A stream's cursor: the id to resume from, sent without an event.

A client has an id to resume from only if it has received one. So a forwarded subscription begins with its
cursor, and the cursor moves on while nothing is published to the subscription's topics.

How it is written depends on the client. By the WHATWG algorithm (HTML, 9.2.6), a block without data sets the
last event id and dispatches nothing, but an id without a blank line counts only with the next block. Some
clients take the id at its own line, and emit an empty message at each blank line.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, final

from .held_states import id_holding
from .message import Framing, frame
from .websocket_frames import json_frame, ping_frame

#: The type of the events of `CursorForm.EVENT`.
CURSOR_EVENT = "trio-sse.cursor"

#: The type of heartbeats: keepalives as events, whose data is the number of seconds between two of them.
HEARTBEAT_EVENT = "trio-sse.heartbeat"


class Cursor(NamedTuple):
    """An id to resume from, and its position in the log."""

    position: int
    id: str


@lru_cache(maxsize=64)
def cursor_holding(cursor: Cursor, mark: str) -> Cursor:
    """Return the cursor of a reader that has the states of this mark; all who are alike share it."""
    return Cursor(cursor.position, id_holding(cursor.id, mark))


@final
class CursorForm(IntEnum):
    """How a client receives cursors."""

    NONE = 0
    """Not at all: the ids that the client has are the application's."""

    BLOCK = 1
    """As a block without data."""

    LINE = 2
    """As an id without a blank line, which becomes a part of the next block."""

    EVENT = 3
    """As an event of a type of its own, whose id a page's code can read."""


# No blank line: see `encode_comment`.
KEEPALIVE = b":\n"


def frame_cursor(id: str, framing: Framing, form: CursorForm) -> bytes:
    """Return a cursor as it is written."""
    return _frames_of(id).cursor(framing, form)


def frame_unshared_cursor(id: str, framing: Framing, form: CursorForm) -> bytes:
    """Return a cursor of one client alone, as it is written."""
    return _Frames(id).cursor(framing, form)


def frame_unshared_keepalive(id: str, framing: Framing, form: CursorForm) -> bytes:
    """Return a keepalive with a cursor of one client alone, as it is written."""
    return _Frames(id).keepalive(framing, form)


def frame_keepalive(framing: Framing) -> bytes:
    """Return a keepalive without a cursor, as it is written."""
    return _KEEPALIVES[framing]


def frame_keepalive_with(id: str, framing: Framing, form: CursorForm) -> bytes:
    """Return a keepalive with a cursor, as it is written."""
    return _frames_of(id).keepalive(framing, form)


@lru_cache(maxsize=16)
def frame_heartbeat(seconds: float, framing: Framing) -> bytes:
    """Return a keepalive that a page's code receives, as it is written: one in so many seconds."""
    return frame(f"event: {HEARTBEAT_EVENT}\ndata: {seconds:g}\n\n".encode(), framing)


_KEEPALIVES = [
    ping_frame() if framing is Framing.WEBSOCKET else frame(KEEPALIVE, framing) for framing in Framing
]


@final
class _Frames:
    """A cursor in each framing and form, made on first need and shared by all clients that receive it."""

    __slots__ = ("_cursors", "_id", "_keepalives")

    def __init__(self, id: str) -> None:
        self._id = id
        self._cursors: list[bytes | None] = [None] * _COMBINATIONS
        self._keepalives: list[bytes | None] = [None] * _COMBINATIONS

    def cursor(self, framing: Framing, form: CursorForm) -> bytes:
        index = framing * _FORMS + form
        framed = self._cursors[index]
        if framed is None:
            if framing is Framing.WEBSOCKET:
                framed = json_frame({"type": "cursor", "last_event_id": self._id})
            else:
                framed = frame(self._encode(form), framing)
            self._cursors[index] = framed
        return framed

    def keepalive(self, framing: Framing, form: CursorForm) -> bytes:
        index = framing * _FORMS + form
        framed = self._keepalives[index]
        if framed is None:
            if framing is Framing.WEBSOCKET:
                framed = _KEEPALIVES[framing] + self.cursor(framing, form)
            else:
                framed = frame(KEEPALIVE + self._encode(form), framing)
            self._keepalives[index] = framed
        return framed

    def _encode(self, form: CursorForm) -> bytes:
        match form:
            case CursorForm.BLOCK:
                return f"id: {self._id}\n\n".encode()
            case CursorForm.LINE:
                return f"id: {self._id}\n".encode()
            case CursorForm.EVENT:
                return f"id: {self._id}\nevent: {CURSOR_EVENT}\ndata:\n\n".encode()
            case CursorForm.NONE:
                raise ValueError("this client receives no cursors")


_FORMS = len(CursorForm)
_COMBINATIONS = len(Framing) * _FORMS


@lru_cache(maxsize=16)
def _frames_of(id: str) -> _Frames:
    return _Frames(id)  # by the id alone: an enumeration member's hash is computed in Python

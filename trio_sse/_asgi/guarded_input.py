"""What a server that is not ours has to say about one request: the parts of its body, and a disconnect.

The app receives it. Where it does not, the guard of the response does, to notice a disconnect.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import final

import trio

from .types import Message, Receive

# Bytes of a request's body that are received ahead of the app, at most; hypercorn has up to ten pieces more.
_MOST_AHEAD = 128 * 1024

# Bytes that a message takes, beside its body.
_MESSAGE = 512


def _do_nothing() -> None:
    pass


def _size(message: Message) -> int:
    return _MESSAGE + len(message.get("body", b""))


@final
class GuardedInput:
    """The messages of one request, each of which one task gets, in order, also if others are cancelled.

    Attributes:
        is_disconnected: it is known that the client has disconnected.
        is_body_over: no part of the request's body will come.
        has_stopped: the app takes nothing but a disconnect any more.
        on_noticed: called when a disconnect is noticed.
        on_disconnect: called when the app may learn of it.
        on_unawaited: called when no task of the app waits for a message any more.
    """

    def __init__(self, receive: Receive, *, is_body_over: bool) -> None:
        self.is_disconnected = False
        self.is_body_over = is_body_over
        self.has_stopped = False
        self.on_noticed: Callable[[], None] = _do_nothing
        self.on_disconnect: Callable[[], None] = _do_nothing
        self.on_unawaited: Callable[[], None] = _do_nothing
        self._receive = receive
        self._receiving: trio.CancelScope | None = None  # one task does, for all
        self._changed = trio.lowlevel.ParkingLot()
        self._app_tasks = 0  # of the app, which wait for a message
        self._ahead: deque[Message] = deque()  # was received before the app has asked for it
        self._has_dropped = False  # a part of the body, so the app gets no later part
        self._bytes_ahead = 0

    @property
    def is_awaited(self) -> bool:
        """Whether a task of the app waits for a message."""
        return self._app_tasks > 0

    @property
    def awaits_body(self) -> bool:
        """Whether the app may still receive a part of the request's body."""
        return not (self.is_disconnected or (self.is_body_over and not self._ahead))

    @property
    def _has_only_disconnect(self) -> bool:
        """Whether nothing but a disconnect follows what is `ahead`."""
        return self.is_disconnected or self.has_stopped or self._has_dropped

    async def take(self) -> Message | None:
        """Wait for the app's next message; return `None` if there is none but a disconnect."""
        self._app_tasks += 1
        try:
            if self._ahead or self._has_only_disconnect:
                await trio.lowlevel.checkpoint()  # before the message is taken, which would be lost else
            while not self._ahead:
                if self._has_only_disconnect:
                    return None
                await self._receive_one(keep=True)
            message = self._ahead.popleft()
            self._bytes_ahead -= _size(message)
            self._changed.unpark_all()
            return message
        except BaseException:  # this is cancelled, so that the caller cannot report it
            if self.is_disconnected:
                self.on_disconnect()
            raise
        finally:
            self._app_tasks -= 1
            if not self._app_tasks:
                self.on_unawaited()

    def stop(self) -> None:
        """Let the app take no more messages."""
        self.has_stopped = True
        if self._receiving is not None:
            self._receiving.cancel()
        self._changed.unpark_all()

    async def _receive_one(self, *, keep: bool) -> None:
        """Receive a message, or wait until another task has.

        If no task of the app waits for the message, it is dropped, unless it is to be kept. After a part of
        the body was dropped, the app receives only a disconnect: it must not take the rest for the whole.
        """
        if self._receiving is not None:
            await self._changed.park()
            return
        try:
            with trio.CancelScope() as self._receiving:
                message = await self._receive()
                self._note(message)
                if message["type"] == "http.disconnect":
                    return
                if not self._has_dropped and (keep or self._app_tasks):
                    self._ahead.append(message)
                    self._bytes_ahead += _size(message)
                elif message.get("body") or message.get("more_body"):
                    self._has_dropped = True
        finally:
            self._receiving = None
            self._changed.unpark_all()

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self.is_disconnected = True
            self.on_noticed()
            if not self._app_tasks:
                self.on_disconnect()  # else the task that receives it does
        if self.is_disconnected or not message.get("more_body", False):
            self.is_body_over = True

    async def wait_disconnected(self, *, ahead: bool = False) -> None:
        """Wait for a disconnect, and drop what comes before.

        If the app may still want that, it is kept for it `ahead`, up to a bound. If more of the body follows,
        that waits for the app, and a disconnect after it is not noticed.
        """
        while not self.is_disconnected:
            if ahead and self._bytes_ahead >= _MOST_AHEAD:
                await self._changed.park()
            else:
                await self._receive_one(keep=ahead)

    async def discard_body(self, seconds: float) -> None:
        """Receive the rest of the request's body, while the app may be receiving, too, for some seconds."""
        with trio.move_on_after(seconds):
            while not self.is_body_over:
                await self._receive_one(keep=False)

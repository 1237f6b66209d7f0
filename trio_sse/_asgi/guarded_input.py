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


def _size(message: Message) -> int:
    return _MESSAGE + len(message.get("body", b""))


@final
class GuardedInput:
    """The messages of one request.

    Attributes:
        is_disconnected: it is known that the client has disconnected.
        is_body_over: no part of the request's body will come.
        has_stopped: the app takes nothing but a disconnect any more.
        on_disconnect: called when it is known.
    """

    def __init__(self, receive: Receive, *, is_body_over: bool) -> None:
        self.is_disconnected = False
        self.is_body_over = is_body_over
        self._receive = receive
        self.has_stopped = False
        self.on_disconnect: Callable[[], None] | None = None
        self._waiting: set[trio.CancelScope] = set()  # tasks of the app
        self._ahead: deque[Message] = deque()  # was received before the app has asked for it
        self._bytes_ahead = 0
        self._discarding: trio.CancelScope | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether a task of the app waits for a message."""
        return bool(self._waiting)

    @property
    def awaits_body(self) -> bool:
        """Whether the app may still receive a part of the request's body."""
        return not (self.is_disconnected or (self.is_body_over and not self._ahead))

    async def take(self) -> Message | None:
        """Wait for the app's next message; return `None` if there is none but a disconnect."""
        while True:
            if self._ahead:
                message = self._ahead.popleft()
                self._bytes_ahead -= _size(message)
                await trio.lowlevel.checkpoint()
                return message
            if self.is_disconnected or self.has_stopped:
                await trio.lowlevel.checkpoint()
                return None
            with trio.CancelScope() as scope:
                self._waiting.add(scope)
                try:
                    return await self._receive()
                finally:
                    self._waiting.discard(scope)

    def stop(self) -> None:
        """Let the app take no more messages."""
        self.has_stopped = True
        self._wake()

    def _wake(self) -> None:
        for scope in self._waiting:
            scope.cancel()

    def note(self, message: Message) -> None:
        """Note what a message says."""
        if message["type"] == "http.disconnect" and not self.is_disconnected:
            self.is_disconnected = True
            self._wake()  # of the tasks that wait, the server has told one
            if self.on_disconnect is not None:
                self.on_disconnect()
        if self.is_disconnected or not message.get("more_body", False):
            self.is_body_over = True
            if self._discarding is not None:
                self._discarding.cancel()

    async def wait_disconnected(self, *, ahead: bool = False) -> None:
        """Wait for a disconnect, and drop what comes before.

        If the app may still want that, it is kept for it `ahead`, up to a bound. If more of the body follows,
        that waits for the app, and a disconnect after it is not noticed.
        """
        while not self.is_disconnected:
            if ahead and self._bytes_ahead >= _MOST_AHEAD:
                await trio.sleep_forever()
            message = await self._receive()
            self.note(message)
            if ahead:
                if not self.is_disconnected:
                    self._ahead.append(message)
                    self._bytes_ahead += _size(message)
                self._wake()

    async def discard_body(self, seconds: float) -> None:
        """Receive the rest of the request's body, while the app may be receiving, too, for some seconds."""
        if self.is_body_over:
            return
        with trio.move_on_after(seconds) as self._discarding:
            while not self.is_body_over:
                self.note(await self._receive())
        self._discarding = None

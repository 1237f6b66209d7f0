"""Requests wait here before a large response is made for them, while too much waits for clients already.

A response that is made is in memory: if there is no room for it, some response must be cut. One that is not
made yet can wait. How large it will be is not known, but those to one path are mostly alike. Where they are
small, or none has been seen, no request waits.

Several requests may be at work at a time. So each reserves what its response is expected to need.
"""

from __future__ import annotations

from typing import final

import trio

from .base import Transport
from .pending_bytes import LARGE, PendingBytes

# Streams and small responses have this part of the bound for themselves.
_PART_FOR_OTHERS = 16

# What an HTTP/2 connection may have in its output, besides the response that its stream keeps.
_OUTPUT = 80 * 1024

# The expectation is the mean of about so many of the last responses.
_REMEMBERED = 4

# Of so many paths it is remembered.
_MAX_PATHS = 1024


@final
class ResponseRoom:
    """The room for large responses, within the bound of what waits for clients.

    Attributes:
        expected: how many bytes the next response to a path is expected to have, where that is much.
        reserved: how many bytes are expected of those that are being made.
        made: how many bytes are made and not sent yet.
    """

    def __init__(self, pending: PendingBytes) -> None:
        self.expected: dict[str, int] = {}
        self.reserved = 0
        self.made = 0
        self.pending = pending
        self._turn = trio.Lock()  # those that wait go on in the order in which they came

    def learn(self, path: str, size: int) -> None:
        """Remember how large a response was."""
        expected = self.expected.pop(path, None)
        if expected is not None:
            size = ((_REMEMBERED - 1) * expected + size) // _REMEMBERED
        if size > LARGE:
            self.expected[path] = size
            if len(self.expected) > _MAX_PATHS:
                del self.expected[next(iter(self.expected))]

    async def reserve(self, size: int) -> None:
        """Wait until there is room for so many bytes, and reserve it.

        Meanwhile, clients that are slow are cut. If this is cancelled, nothing is reserved.
        """
        async with self._turn:
            while not self._has_room(size):
                look_at = self.pending.cut_patiently(self._most - size - self.reserved - self.made)
                with trio.move_on_at(look_at):
                    await self.pending.freed.park()
                # If the event loop was blocked, clients seem to have taken nothing. Let them be served first.
                await trio.lowlevel.checkpoint()
            self.reserved += size

    @property
    def is_empty(self) -> bool:
        """Whether no response is there, neither waiting nor made."""
        return self.pending.is_empty and not self.made

    @property
    def _most(self) -> int:
        return self.pending.most - self.pending.most // _PART_FOR_OTHERS

    def _has_room(self, size: int) -> bool:
        if self.is_empty and not self.reserved:
            return True  # one that is larger than the bound is sent alone
        needed = self.pending.total + self.reserved + self.made + size
        return not self.pending.leaving and needed <= self._most


@final
class ResponsePlace:
    """The place of one response: first expected, then taken, and released when the response has been sent.

    Args:
        transport: where the response is sent.
    """

    __slots__ = ("_expected", "_made", "_output", "_path", "_reserved", "_room")

    def __init__(self, room: ResponseRoom, path: str, transport: Transport) -> None:
        self._room = room
        self._path = path
        self._expected = 0
        self._output = _OUTPUT if transport.connection_number else 0
        self._reserved = 0
        self._made = 0

    def must_wait(self) -> bool:
        """Return whether to `wait` before the response is made."""
        self._expected = self._room.expected.get(self._path, 0)
        return bool(self._expected or self._room.pending.leaving)

    async def wait(self) -> None:
        """Wait until the response may be made. Call `release` also if this is cancelled."""
        if self._expected:
            await self._room.reserve(self._expected + self._output)
            self._reserved = self._expected + self._output
        else:
            await self._room.pending.settle()

    def take(self, body: bytes | str) -> bool:
        """Note how large the response is; return whether there is room for it. A large one is in bytes."""
        size = len(body)
        if size <= LARGE and not self._expected:
            return True
        room = self._room
        self.release()
        size = room.pending.cost(body)
        room.learn(self._path, size)
        if size <= LARGE:
            return True
        has_room = room.pending.make_room(size + room.made) or room.is_empty
        self._reserved = self._output
        self._made = size
        room.reserved += self._reserved
        room.made += size
        return has_room

    def begin_sending(self) -> None:
        """Let the response itself be counted as what waits. Send it without a checkpoint."""
        self._room.made -= self._made
        self._made = 0

    def release(self) -> None:
        """Give the place up."""
        if self._reserved or self._made:
            self._room.reserved -= self._reserved
            self._room.made -= self._made
            self._reserved = self._made = 0
            self._room.pending.freed.unpark()

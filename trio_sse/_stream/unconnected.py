"""The transport of a stream that is not written to its client: another response says what it would be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .._transport.buffered import BufferedTransport

#: Has a function called when the client disconnects.
WatchDisconnect = Callable[[Callable[[], None]], None]


class UnconnectedTransport(BufferedTransport):
    """Reads only to notice a disconnect; a subclass says what becomes of what is written."""

    def __init__(self, peer: str, discard: Callable[[], Awaitable[bool]]) -> None:
        super().__init__(peer)
        self._discard = discard

    async def discard_some(self) -> bool:
        return await self._discard()

    def unread_bytes(self) -> int:
        return 0

    async def linger(self) -> None:
        """Do nothing: there is no connection."""

    async def aclose(self, *, abort: bool = False) -> None:
        """Do nothing: there is no connection."""

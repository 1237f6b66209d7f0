"""What a stream has instead of a transport while an app decides about its response."""

from __future__ import annotations

from typing import final

from .._wire.message import Framing
from .base import HandleState
from .buffered import BufferedTransport


@final
class AwaitedTransport(BufferedTransport):
    """Owns nothing, and refuses everything. It has what is known already of the transport that will come."""

    __slots__ = ("_connection_number", "_is_direct", "_is_watchable")

    def __init__(
        self,
        peer: str,
        framing: Framing,
        *,
        is_direct: bool,
        is_watchable: bool,
        connection_number: int = 0,
    ) -> None:
        super().__init__(peer)
        self.state = HandleState.CLOSED
        self.framing = framing
        self._is_direct = is_direct
        self._is_watchable = is_watchable
        self._connection_number = connection_number

    @property
    def connection_number(self) -> int:
        return self._connection_number

    @property
    def is_direct(self) -> bool:
        return self._is_direct

    @property
    def is_watchable(self) -> bool:
        return self._is_watchable

    async def discard_some(self) -> bool:
        return bool(await self.receive_some())

    def unread_bytes(self) -> int:
        return 0

    async def linger(self) -> None:
        await self.receive_some()

"""Any Trio stream as a `Transport`.

A stream may be an application's own. Whatever it raises means that the connection is broken.
"""

from __future__ import annotations

import contextlib
from typing import ClassVar, NoReturn, final

import trio

from .._groups import split_failure
from .._logger import get_logger
from .base import CLOSE_SECONDS, LINGER_SECONDS, RECEIVE_SIZE, HandleState, not_owned, read_to_end
from .buffered import BufferedTransport

logger = get_logger("trio_sse.server")


@final
class _NoStream(trio.abc.Stream):
    """What a handle has instead of a stream once it owns none."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise trio.ClosedResourceError

    async def wait_send_all_might_not_block(self) -> None:
        raise trio.ClosedResourceError

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        raise trio.ClosedResourceError

    async def aclose(self) -> None:
        """Do nothing: there is no stream."""


_NO_STREAM = _NoStream()


@final
class StreamTransport(BufferedTransport):
    """A Trio stream, which the transport owns."""

    __slots__ = ("_discarded", "stream")

    most_at_once: ClassVar[int] = 64 * 1024

    def __init__(self, stream: trio.abc.Stream, peer: str) -> None:
        super().__init__(peer)
        self.stream = stream
        self._discarded = 0

    def _release(self) -> None:
        self.stream = _NO_STREAM

    @property
    def is_secure(self) -> bool:
        if self.origin is not None and self.origin.is_secure is not None:
            return self.origin.is_secure
        return isinstance(self.stream, trio.SSLStream)

    async def _write(self, payload: bytes | memoryview) -> None:
        try:
            await self.stream.send_all(payload)
        except BaseException as failure:
            self._raise_broken(failure)

    async def _receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(RECEIVE_SIZE))
        except BaseException as failure:
            self._raise_broken(failure)

    def _raise_broken(self, failure: BaseException) -> NoReturn:
        """Raise what a failure of the stream means to who uses the transport."""
        if isinstance(failure, trio.BrokenResourceError):
            raise failure
        passing, contained = split_failure(failure)
        try:
            if contained is not None and not isinstance(contained, trio.ClosedResourceError | OSError):
                logger.error("the stream of peer=%s failed", self.peer, exc_info=contained)
            if passing is not None:
                raise passing
            raise trio.BrokenResourceError("the stream is closed") from contained
        finally:
            # Otherwise this frame and the exception refer to one another, and keep what was to be written.
            del failure, passing, contained

    async def discard_some(self) -> bool:
        count = len(await self.receive_some())
        self._discarded += count
        return count > 0

    def unread_bytes(self) -> int:
        return self._discarded

    async def linger(self) -> None:
        if self.state is not HandleState.OWNED:
            raise not_owned(self.state)
        if not isinstance(self.stream, trio.abc.HalfCloseableStream):
            return
        with trio.move_on_after(LINGER_SECONDS):
            try:
                try:
                    await self.stream.send_eof()
                except BaseException as failure:
                    self._raise_broken(failure)
                await read_to_end(self.receive_some)
            except trio.BrokenResourceError:
                pass  # the peer has disconnected: nobody waits for the reply

    async def _close(self, *, abort: bool) -> None:
        try:
            if abort or self._is_broken:
                await trio.aclose_forcefully(self.stream)
                return
            with trio.move_on_after(CLOSE_SECONDS):
                await self.stream.aclose()
        except BaseException as failure:
            with contextlib.suppress(trio.BrokenResourceError):
                self._raise_broken(failure)

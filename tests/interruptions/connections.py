"""The two ends of a connection, watched: what is written after a cut, and who waits for ever."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import final

import trio

from trio_sse.testing._pipe import PipeEnd

from .places import OF_OPERATIONS, Place
from .world import World

#: Seconds without a byte after which the client counts as forgotten; streams are kept alive every 15 s.
FORGOTTEN = 100.0


@final
class ServersEnd(trio.abc.HalfCloseableStream):
    """The server's end of a connection in memory, of which one operation may fail."""

    def __init__(self, end: PipeEnd, world: World) -> None:
        self.end = end
        self._world = world
        self._is_cut = False  # a write has failed, or was cancelled: nobody knows how much was written
        self._failure: Callable[[], Exception] | None = None

    def _fail(self) -> None:
        if self._failure is None and self._world.trigger.place in OF_OPERATIONS and self._world.trigger.hit():
            self._failure = make_failure(self._world.trigger.place)
        if self._failure is not None:
            raise self._failure()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_cut and data:
            self._world.faults.append(f"bytes are written after a cut: {bytes(data)[:60]!r}")
        await self._world.turns()
        try:
            self._fail()
            await self.end.send_all(data)
        except BaseException:
            self._is_cut = True
            if self._failure is not None and self._world.trigger.place is Place.SHORT:
                await self._send_part(bytes(data)[: len(data) // 2])
            raise

    async def _send_part(self, data: bytes) -> None:
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await self.end.send_all(data)
        except trio.BrokenResourceError:
            pass  # the client has left

    async def wait_send_all_might_not_block(self) -> None:
        await self.end.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self._world.turns()
        self._fail()
        return await self.end.receive_some(max_bytes)

    async def send_eof(self) -> None:
        self._fail()
        await self.end.send_eof()

    async def aclose(self) -> None:
        await self.end.aclose()
        self._fail()


def make_failure(place: Place) -> Callable[[], Exception]:
    """Return what makes the exceptions of a connection that fails."""
    match place:
        case Place.CLOSED:
            return lambda: trio.ClosedResourceError("injected")
        case Place.OS_ERROR:
            return lambda: OSError(errno.EIO, "injected")
        case _:
            return lambda: trio.BrokenResourceError("injected")


@final
class ClientsEnd(trio.abc.HalfCloseableStream):
    """The client's end of any connection, which records what is read and written."""

    def __init__(self, stream: trio.abc.Stream, world: World) -> None:
        self.stream = stream
        self.sent = bytearray()
        self.received = bytearray()
        self._world = world

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data
        await self._world.turns()
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self._world.turns()
        data = b""
        with trio.move_on_after(FORGOTTEN) as limit:
            data = bytes(await self.stream.receive_some(max_bytes))
        if limit.cancelled_caught:
            self._world.faults.append(f"the client waits for ever, after {bytes(self.received)[-200:]!r}")
            raise trio.BrokenResourceError("forgotten")
        self.received += data
        return data

    async def send_eof(self) -> None:
        assert isinstance(self.stream, trio.abc.HalfCloseableStream)
        await self.stream.send_eof()

    async def aclose(self) -> None:
        await self.stream.aclose()


@final
class FaultySocket(socket.socket):
    """A connected socket of the server, of which one operation may fail."""

    world: World

    def _fails(self) -> bool:
        return self.world.trigger.place in OF_OPERATIONS and self.world.trigger.hit()

    def send(self, data: object, flags: int = 0) -> int:
        if self._fails():
            if self.world.trigger.place is Place.SHORT:
                return super().send(bytes(memoryview(data))[:1], flags)  # type: ignore[arg-type]
            raise self._error()
        return super().send(data, flags)  # type: ignore[arg-type]

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self._fails():
            if self.world.trigger.place is Place.SHORT:
                return super().recv(1, flags)
            raise self._error()
        return super().recv(size, flags)

    def _error(self) -> OSError:
        match self.world.trigger.place:
            case Place.BROKEN:
                return ConnectionResetError(errno.ECONNRESET, "injected")
            case Place.CLOSED:
                return BrokenPipeError(errno.EPIPE, "injected")
            case _:
                return OSError(errno.EHOSTUNREACH, "injected")


@final
class FaultyListener(socket.socket):
    """A listening socket whose connections are faulty."""

    world: World

    def accept(self) -> tuple[socket.socket, object]:
        connected, address = super().accept()
        faulty = FaultySocket(connected.family, connected.type, connected.proto, fileno=connected.detach())
        faulty.world = self.world
        return faulty, address


def listen(world: World) -> FaultyListener:
    """Return a socket that listens on a free port of this machine."""
    listening = FaultyListener()
    listening.world = world
    listening.bind(("127.0.0.1", 0))
    listening.listen(100)
    return listening

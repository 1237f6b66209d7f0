"""The client of `trio_sse.client`, over the connections of a case, of which one operation may fail."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, final

import httpcore
import httpx
import trio

from trio_sse import ServerSentEvent
from trio_sse.client import EventSource, SourceStatus

from ..support.waiting import until
from .connections import make_failure
from .places import OF_OPERATIONS, Place
from .scenario import Visitor
from .world import Injected, InjectedPanic, World


@final
class Following:
    """What a client receives of a stream that it follows, over as many connections as it needs.

    When its task was cancelled, it goes on with the same `EventSource`, or leaves that one and makes another.

    Attributes:
        received: the events.
        is_over: the server has no more of them.
    """

    def __init__(self, visitor: Visitor, path: str, *, is_left: bool, options: dict[str, Any]) -> None:
        self.received: list[ServerSentEvent] = []
        self.is_over = False
        self._visitor = visitor
        self._path = path
        self._is_left = is_left
        self._options = options

    @property
    def texts(self) -> list[str]:
        """The data of the events."""
        return [str(event.data) for event in self.received]

    async def has(self, *texts: str) -> None:
        """Wait until this was received; say that it is wrong if it is something else.

        Raises:
            trio.BrokenResourceError: the hub has ended before.
        """
        hub = self._visitor.hub
        await until(lambda: len(self.received) >= len(texts) or self.is_over or not hub.is_running)
        if len(self.received) < len(texts) and not self.is_over:
            raise trio.BrokenResourceError("the hub has ended")
        if self.texts != list(texts):
            self._visitor.world.faults.append(f"a client has received {self.texts}, not {texts}")

    async def run(self, client: httpx.AsyncClient) -> None:
        """Follow the stream until the server has no more of it."""
        self._visitor.serving.note_client()
        while not self.is_over:
            with self._interruptible(can_cancel=self._is_left):
                async with self._source(client) as source:
                    try:
                        while not self.is_over:
                            with self._interruptible(can_cancel=not self._is_left):
                                await self._read(source)
                    finally:
                        self._options["last_event_id"] = source.last_event_id

    async def _read(self, source: EventSource) -> None:
        async for event in source:
            self.received.append(event)
        self.is_over = True

    @contextmanager
    def _interruptible(self, *, can_cancel: bool) -> Iterator[None]:
        """Catch what users' code raises, and be what the case may cancel."""
        scopes = self._visitor.world.clients if can_cancel else set[trio.CancelScope]()
        with trio.CancelScope() as scope:
            scopes.add(scope)
            try:
                yield
            except (Injected, InjectedPanic):
                pass
            finally:
                scopes.discard(scope)

    def _source(self, client: httpx.AsyncClient) -> EventSource:
        def on_status(status: SourceStatus, detail: str) -> None:
            self._visitor.world.code(f"on_status: {status.value}")

        options = {"first_delay": 0.5, "on_status": on_status, **self._options}
        return EventSource(f"http://test{self._path}", client=client, **options)


@asynccontextmanager
async def following(
    visitor: Visitor, path: str, *, is_left: bool = False, **options: Any
) -> AsyncIterator[Following]:
    """Follow a stream while the block runs; fail if the server ends."""
    found = Following(visitor, path, is_left=is_left, options=options)
    network = _Network(visitor)
    visitor.world.remaining["connections of the client"] = lambda: network.open
    async with (
        httpx.AsyncClient(transport=_Transport(network)) as client,
        trio.open_nursery(strict_exception_groups=True) as nursery,
    ):
        nursery.start_soon(_fail_at_end, visitor.serving.ended)
        nursery.start_soon(found.run, client)
        yield found
        nursery.cancel_scope.cancel()


async def _fail_at_end(ended: trio.Event) -> None:
    await ended.wait()
    raise trio.BrokenResourceError("the server has ended")


# The way from httpx to the connections: httpx takes a transport, httpcore takes a network.


@final
class _Transport(httpx.AsyncBaseTransport):
    """What `httpx.AsyncHTTPTransport` does, on any network."""

    def __init__(self, network: httpcore.AsyncNetworkBackend) -> None:
        self._pool = httpcore.AsyncConnectionPool(network_backend=network)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        url = request.url
        with _as_httpx():
            response = await self._pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response.stream))

    async def aclose(self) -> None:
        await self._pool.aclose()


@final
class _Body(httpx.AsyncByteStream):
    """A response's body."""

    def __init__(self, parts: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        self._parts: Any = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._parts:
                yield part

    async def aclose(self) -> None:
        with _as_httpx():
            await self._parts.aclose()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Raise httpcore's errors as those of httpx, which have the same names."""
    try:
        yield
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


@final
class _Network(httpcore.AsyncNetworkBackend):
    """The connections of a case.

    Attributes:
        open: how many are open.
    """

    def __init__(self, visitor: Visitor) -> None:
        self.open = 0
        self._visitor = visitor

    async def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        world = self._visitor.world
        with _as_error(httpcore.ConnectError):
            fail(world)
            stream = await self._visitor.serving.connect_raw()
        self.open += 1
        return _NetworkStream(stream, world, self)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


@final
class _NetworkStream(httpcore.AsyncNetworkStream):
    """One connection of a client."""

    def __init__(self, stream: trio.abc.Stream, world: World, network: _Network) -> None:
        self._stream = stream
        self._world = world
        self._network = network
        self._is_closed = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's
        await self._world.turns()
        with _as_error(httpcore.ReadError):
            if self._world.trigger.place is Place.SHORT and self._world.trigger.hit():
                max_bytes = 1
            else:
                fail(self._world)
            return bytes(await self._stream.receive_some(max_bytes))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._world.turns()
        with _as_error(httpcore.WriteError):
            if self._world.trigger.place is Place.SHORT and self._world.trigger.hit():
                await self._stream.send_all(buffer[: len(buffer) // 2])
                raise trio.BrokenResourceError("injected")
            fail(self._world)
            await self._stream.send_all(buffer)

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._network.open -= 1
        await self._stream.aclose()


def fail(world: World) -> None:
    """Fail if it is the turn of this operation."""
    if world.trigger.place in OF_OPERATIONS and world.trigger.hit():
        raise make_failure(world.trigger.place)()


@contextmanager
def _as_error(kind: type[Exception]) -> Iterator[None]:
    """Raise what a connection may raise as an error of httpcore's, as its own network does."""
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
        raise kind(str(error)) from error

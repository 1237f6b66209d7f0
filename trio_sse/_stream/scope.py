"""The scopes of one call of `serve` (or its like), and the order in which they end.

They have this shape, and `run` returns only when everything inside has ended::

    the call's nursery
        the services, shielded: hub, keepalives, coalescing, disconnects
        the connections' nursery
            the acceptor
            one task for each connection

The services outlive the connections, so that a cancelled handler can still publish while it cleans up. Their
shield ends with the connections' nursery, and at the latest after the drain time.

Tasks are started among the connections by `start_soon` and `start_contained` only. What one of them raises is
logged, and ends that task. What the code of one request leaves in context variables, the next request on its
connection does not see: `clean_context` stands between the two.
"""

from __future__ import annotations

import contextvars
import select
from collections.abc import Awaitable, Callable, Iterator
from threading import get_ident
from typing import NoReturn, Protocol, TypeVarTuple, final

import trio

from .._generators import close_generators_of
from .._groups import split_failure
from .._hub.hub import Hub, engine_of
from .._logger import get_logger
from .._transport.arriving_bytes import ArrivingBytes
from .._transport.base import Transport
from .._transport.pending_bytes import PendingBytes
from .._transport.response_room import ResponseRoom
from .coalescer import WriteCoalescer
from .counters import StreamCounters
from .disconnects import DisconnectWatcher
from .draining import DRAIN_GRACE_SECONDS, OpenResponse
from .identities import IdentityIndex
from .idle_connections import IdleConnections
from .keepalive import KeepaliveScheduler
from .listing import ListedStream

logger = get_logger("trio_sse.server")

Ts = TypeVarTuple("Ts")


class OpenStream(OpenResponse, ListedStream, Protocol):
    """What a scope, and a server's registry, need of a stream."""

    def sent(self) -> tuple[int, int]:
        """Return how many events and bytes it has sent."""

    @property
    def duration(self) -> float:
        """Seconds since it was opened."""


@final
class ServeScope:
    """What the connections of one call share.

    Attributes:
        accepting: the scope that accepts them. The call ends when it has ended and they have.
        idle: the connections between two requests.
        quiet: those of WebSockets that are sent a ping after a time.
        waiting: the scopes of those that wait for the rest of a request, or linger.
        ids: the numbers of its streams, one after the other.
        streams: the open streams by their numbers, oldest first, those of apps included.
        identities: the streams by identity.
        app_responses: the other responses that apps have begun and not ended, oldest first.
        counters: where the ends of its streams are counted.
        log_identities: the log says whose each stream was.
        id_header: the header field that has the number of each stream.
        pending_bytes: counts and bounds what waits for clients that read slowly.
        response_room: where requests wait while that is too much.
        arriving_bytes: counts and bounds what has arrived of messages that are not whole.
        is_draining: no further request is answered.
        is_cancelled: the call was cancelled from outside, so each of its streams ends.
        keepalives: writes keepalives for streams that can be written to without waiting.
        coalescer: joins what handlers send back to back.
        disconnects: notices peers that disconnect; `None` on platforms without `epoll`.
        hub: the hub that runs while the call does.
        ended: set when all connections have ended.
        drain_began: set when it drains; `drained_since` is when that was, in Trio's time.
    """

    def __init__(
        self,
        hub: Hub,
        counters: StreamCounters,
        serve_scopes: dict[ServeScope, None],
        pending_bytes: PendingBytes,
        identities: IdentityIndex[ListedStream],
        ids: Iterator[int],
        *,
        drain_timeout: float,
    ) -> None:
        """Prepare a call that runs `hub` and is in `serve_scopes` while it serves."""
        self.counters = counters
        self.pending_bytes = pending_bytes
        self.response_room = ResponseRoom(pending_bytes)
        self.arriving_bytes = ArrivingBytes()
        self.accepting = trio.CancelScope()
        self.idle = IdleConnections()
        self.quiet = IdleConnections()
        self.waiting: set[trio.CancelScope] = set()
        self.ids = ids
        self.streams: dict[int, OpenStream] = {}
        self.identities = identities
        self.log_identities = False
        self.id_header: str | None = None
        self.app_responses: dict[OpenResponse, None] = {}
        self.is_draining = False
        self.is_cancelled = False
        self.keepalives = KeepaliveScheduler()
        self.coalescer = WriteCoalescer()
        self.disconnects: DisconnectWatcher | None = None
        self.ended = trio.Event()
        self.thread = get_ident()
        self._connections: trio.Nursery | None = None  # while `run` runs
        self._context = contextvars.Context()  # the variables of the call to serve
        self.hub = hub
        self._serve_scopes = serve_scopes
        self._drain_timeout = drain_timeout
        self.drained_since: float | None = None
        self.drain_began = trio.Event()
        self._services_scope = trio.CancelScope(shield=True)
        self.hub_start_scope = trio.CancelScope()

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`, which starts tasks in `connections`, and wait for all of them.

        If the server drains while the hub still starts, `work` is not run.
        """
        self._serve_scopes[self] = None
        self._context = contextvars.copy_context()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.wait_cancelled)
                nursery.start_soon(self._end_overdue_services)
                # If this is cancelled already, Trio would leave the services in `nursery.start`, which would
                # wait forever, as they are shielded. So the start is shielded, too. Only the hub's start
                # waits in it, for a shared log, and a cancellation or a drain ends that.
                with trio.CancelScope(shield=True):
                    await nursery.start(self._services)
                try:
                    if not self.is_draining:
                        await self._serve(work)
                    if self.drained_since is not None:
                        await engine_of(self.hub).services.finish(self.drained_since)
                finally:
                    self._services_scope.cancel()
                nursery.cancel_scope.cancel()
        finally:
            self._end()

    async def _serve(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            async with trio.open_nursery() as connections:
                self._connections = connections
                close_generators_of(connections)
                await work()
        finally:
            self._end()

    def _end(self) -> None:
        self._serve_scopes.pop(self, None)
        self.ended.set()

    def stop_accepting(self, drained_since: float | None = None) -> None:
        """Accept no more connections, and end those that carry no stream.

        `drained_since` is when the drain has begun, if it was not now.
        """
        self.is_draining = True
        if self.drained_since is None and trio.lowlevel.in_trio_run():
            self.drained_since = trio.current_time() if drained_since is None else drained_since
            engine_of(self.hub).services.release(self)
            self.drain_began.set()
        self.hub_start_scope.cancel()
        self.accepting.cancel()
        self.idle.interrupt_all()
        for scope in self.waiting:
            scope.cancel()

    def cancel_connections(self) -> None:
        """Cancel the tasks of all connections, if there are any yet."""
        if self._connections is not None:
            self._connections.cancel_scope.cancel()

    def check_thread(self) -> None:
        """Raise `RuntimeError` in any other thread than that of the call to serve."""
        if self.thread != get_ident():
            raise RuntimeError(
                "this connection belongs to the Trio run of another thread: call trio.from_thread.run("
                "connection.send, ...) or trio.from_thread.run_sync(connection.close), with trio_token=... "
                "if Trio has not started this thread"
            )

    # The tasks of connections

    def start_soon(
        self, function: Callable[[*Ts], Awaitable[None]], *arguments: *Ts, name: str | None = None
    ) -> None:
        """Start a task among those of the connections. What it raises is logged, and ends only itself."""
        assert self._connections is not None, "the call to serve has not begun"
        self._connections.start_soon(_run_contained, function, arguments, name=name)

    def start_contained(
        self, function: Callable[[*Ts], Awaitable[None]], *arguments: *Ts, name: str | None = None
    ) -> None:
        """Start a task whose function raises only what must pass; see `split_failure`.

        It is for tasks that live as long as streams: `start_soon` would add 4 % to the memory of each.
        """
        assert self._connections is not None, "the call to serve has not begun"
        self._connections.start_soon(function, *arguments, name=name)

    # Context variables

    def run_in_clean_context(self, function: Callable[[], None]) -> None:
        """Call a function with the context variables of the call to serve."""
        self._context.copy().run(function)

    @property
    def has_clean_context(self) -> bool:
        """Whether the current task has the context variables of the call to serve, and no others."""
        return _are_same(trio.lowlevel.current_task().context, self._context)

    async def clean_context(self) -> None:
        """Let the current task forget the context variables that the code of a request has set.

        Do this between two requests on one connection, which may be of two clients of a proxy.
        """
        trio.lowlevel.current_task().context = self._context.copy()
        await trio.lowlevel.cancel_shielded_checkpoint()  # it counts from the task's next step on

    async def linger(self, transport: Transport) -> None:
        """Let a client receive the end of its response before its connection is closed.

        See `Transport.linger`. While the server drains, the client gets a short time only.
        """
        if not self.is_draining:
            with trio.CancelScope() as scope:
                self.waiting.add(scope)
                try:
                    await transport.linger()
                finally:
                    self.waiting.discard(scope)
            if not scope.cancelled_caught:
                return
        with trio.move_on_after(DRAIN_GRACE_SECONDS):
            await transport.linger()

    async def _services(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self._services_scope:
            async with trio.open_nursery() as nursery:
                with self.hub_start_scope:
                    await nursery.start(self._run_hub)
                nursery.start_soon(self.keepalives.run)
                nursery.start_soon(self.coalescer.run)
                nursery.start_soon(self.idle.run)
                nursery.start_soon(self.quiet.run)
                if hasattr(select, "epoll"):
                    self.disconnects = DisconnectWatcher()
                    nursery.start_soon(self.disconnects.run)
                task_status.started()

    async def _run_hub(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run the hub. If another task already runs it, wait to take over from that one."""
        engine = engine_of(self.hub)
        with engine.services.used_by(self):
            if self.is_draining:
                engine.services.release(self)
            await engine.keep_running(task_status)

    async def _end_overdue_services(self) -> None:
        """While the server drains, end what goes on for too long, so that its clients learn it in time."""
        await self.drain_began.wait()
        assert self.drained_since is not None
        await engine_of(self.hub).services.end_overdue(self.drained_since, self._drain_timeout)

    async def wait_cancelled(self) -> NoReturn:
        """Sleep until cancelled, and set `is_cancelled` before any other task sees the cancellation.

        When a scope is cancelled, Trio calls the abort functions of all waiting tasks before it runs the
        first of them. So a stream that is cancelled with the call knows why, in its `finally`.
        """
        await trio.lowlevel.wait_task_rescheduled(self._on_cancelled)
        raise AssertionError("nothing reschedules this task")

    def _on_cancelled(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self.is_cancelled = True
        self.hub_start_scope.cancel()
        self._services_scope.deadline = trio.current_time() + self._drain_timeout
        return trio.lowlevel.Abort.SUCCEEDED


async def _run_contained(function: Callable[[*Ts], Awaitable[None]], arguments: tuple[*Ts]) -> None:
    try:
        await function(*arguments)
    except BaseException as failure:
        passing, contained = split_failure(failure)
        if contained is not None:
            logger.error("serving a connection failed", exc_info=contained)
        if passing is not None:
            raise passing from None


def _are_same(one: contextvars.Context, other: contextvars.Context) -> bool:
    """Whether two contexts have the same variables with the same objects."""
    if len(one) != len(other):
        return False
    return not other or all(one.get(name, _UNSET) is value for name, value in other.items())


_UNSET = object()

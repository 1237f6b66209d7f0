"""The calls to serve: listening sockets or streams, the app's lifespan, the watchdog, and draining.

What one call owns, and in which order it ends, is in `_stream/scope.py`.

Invariants: a listening socket that was passed to `serve_listeners` is closed when the call ends, also if it
was cancelled before it started. A connected socket belongs to its transport from the moment it is accepted.
While any call is in progress, exactly one watchdog is installed.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import final

import trio

from .._app.app import AppHandler
from .._logger import get_logger
from .._process.descriptors import log_descriptor_limit
from .._process.quiet_interrupt import exit_quietly_when_interrupted
from .._process.watchdog import Watchdog
from .._proxies.trusted_proxies import UNIX, TrustedProxies
from .._request.options import ServeOptions
from .._stream.draining import OpenResponse, end_app_responses, end_streams
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._transport.socket import SocketTransport
from .._transport.stream import StreamTransport
from .._transport.tls import TLSTransport, check_server_context
from .._validate import check_flags
from .accepted import AcceptedConnections
from .listeners import Acceptor, as_sockets, prepare

logger = get_logger("trio_sse.server")

#: What a server that speaks HTTP/2 offers its TLS clients (RFC 7301), the preferred one first.
ALPN_PROTOCOLS = ("h2", "http/1.1")

# All connections' tasks share this name between two streams. Otherwise Trio makes a name for each of them.
_TASK_NAME = "trio_sse connection"

#: A socket's own address, as the `socket` module returns it: (host, port, ...) for TCP, a path for Unix.
Address = tuple[object, ...] | str


@final
class ServeCalls:
    """The calls to serve of one server, which may run at the same time. `Server` describes them.

    Attributes:
        watchdog: watches the steps and turns of the event loop.
        is_observed: whether it does.
        is_for_operators: whether the clients may use some of the descriptors that are kept from others.
    """

    def __init__(
        self,
        options: ServeOptions,
        manager: StreamManager,
        app: AppHandler | None,
        proxies: TrustedProxies,
        accepted: AcceptedConnections,
        *,
        offers_http2: bool,
    ) -> None:
        self.options = options
        self._proxies = proxies
        self._manager = manager
        self._app = app
        self._accepted = accepted
        self._offers_http2 = offers_http2
        self._starting: set[trio.CancelScope] = set()  # of calls that wait for the app to start
        self.watchdog = Watchdog(options.slow_step)
        self.is_observed = True
        self.is_for_operators = False
        self._count = 0  # of calls in progress
        self.turned_away = 0  # clients

    # Listening sockets

    def check(self, ssl_context: ssl.SSLContext | None, *, proxy_protocol: bool) -> None:
        """Check the arguments of a call.

        Raises:
            ValueError: the TLS context is a client's, or no proxy is trusted to send PROXY headers.
        """
        if ssl_context is not None:
            check_server_context(ssl_context)
        if proxy_protocol and not self._proxies:
            raise ValueError("proxy_protocol needs trusted_proxies, the proxies that send PROXY headers")

    async def serve_listeners(
        self,
        listeners: Sequence[trio.SocketListener | socket.socket],
        ssl_context: ssl.SSLContext | None,
        task_status: trio.TaskStatus[list[Address]],
        *,
        exclusive: bool,
        proxy_protocol: bool,
    ) -> None:
        """Serve on listening sockets; see `Server.serve_listeners`."""
        check_flags(exclusive=exclusive, proxy_protocol=proxy_protocol)
        sockets = as_sockets(listeners)
        serving = self._scope()
        outgoing = ssl.MemoryBIO()
        if ssl_context is not None:
            self._accepted.load_http2()

        def on_accept(connected: socket.socket, address: object) -> None:
            if ssl_context is None:
                transport = SocketTransport(connected, address, serving.disconnects)
                serving.start_contained(self._accepted.serve, transport, serving, name=_TASK_NAME)
                return
            try:
                secured = TLSTransport(connected, address, ssl_context, outgoing, serving.disconnects)
            except (ssl.SSLError, ValueError) as error:  # the context has been changed since it was checked
                connected.close()
                logger.error("cannot serve TLS: %s", error)
                return
            serving.start_contained(self._accepted.serve_tls, secured, serving, name=_TASK_NAME)

        async def serve_proxied(connected: socket.socket, address: object) -> None:
            proxied = await self._accepted.receive_proxy_header(connected, address, serving)
            if proxied is not None:
                on_accept(connected, proxied)

        def on_accept_proxy(connected: socket.socket, address: object) -> None:
            if self._proxies.trusts(address[0] if isinstance(address, tuple) else UNIX):
                serving.start_soon(serve_proxied, connected, address, name=_TASK_NAME)
            else:
                on_accept(connected, address)

        async def accept() -> None:
            task_status.started([listening.getsockname() for listening in sockets])
            for listening in sockets:
                logger.info("serving on %s", listening.getsockname())
            acceptor = Acceptor(
                sockets,
                on_accept_proxy if proxy_protocol else on_accept,
                exclusive=exclusive,
                on_turn_away=self._count_turned_away,
                for_operators=self.is_for_operators,
            )
            await acceptor.run(serving.accepting, is_draining=lambda: serving.is_draining)

        try:
            self.check(ssl_context, proxy_protocol=proxy_protocol)
            if ssl_context is not None and self._offers_http2:
                ssl_context.set_alpn_protocols(ALPN_PROTOCOLS)
            for listening in sockets:
                write_timeout = self._manager.options.write_timeout
                prepare(listening, send_buffer=self.options.send_buffer, write_timeout=write_timeout)
            log_descriptor_limit()
            exit_quietly_when_interrupted()
            await self._run(serving, accept)
        finally:
            for listening in sockets:
                listening.close()  # `accept` may never have run

    # Streams

    async def serve_stream(self, stream: trio.abc.Stream, peer: str) -> None:
        """Serve one peer over a Trio stream; see `Server.serve_stream`."""
        serving = self._scope()

        async def serve() -> None:
            await self._accepted.serve(StreamTransport(stream, peer), serving)

        await self._run(serving, serve)

    async def serve_in_memory(
        self, task_status: trio.TaskStatus[Callable[[trio.abc.Stream, str], None]]
    ) -> None:
        """Serve streams that are passed one by one; see `Server.serve_in_memory`."""
        serving = self._scope()
        is_accepting = False

        def connect(stream: trio.abc.Stream, peer: str) -> None:
            if not is_accepting:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "the server accepts no connections any more")
            transport = StreamTransport(stream, peer)
            start = partial(serving.start_contained, self._accepted.serve, transport, serving)
            serving.run_in_clean_context(start)

        async def wait() -> None:
            nonlocal is_accepting
            is_accepting = True
            task_status.started(connect)
            try:
                with serving.accepting:
                    await trio.sleep_forever()
            finally:
                is_accepting = False  # otherwise the call would not end while clients go on connecting

        await self._run(serving, wait)

    # One call

    def _count_turned_away(self) -> None:
        self.turned_away += 1

    def _scope(self) -> ServeScope:
        return self._manager.new_serve_scope(drain_timeout=self.options.drain_timeout)

    async def _run(self, serving: ServeScope, work: Callable[[], Awaitable[None]]) -> None:
        """Run one call, under the watchdog and within the app's lifespan."""
        self._count += 1
        if self._count == 1 and self.is_observed:
            self._begin_observing()
        try:
            if self._app is None:
                await serving.run(work)
            else:
                await self._run_with_app(self._app, serving, work)
        finally:
            self._count -= 1
            if self._count == 0:
                self._end_observing()

    def _begin_observing(self) -> None:
        self.watchdog.begin()
        trio.lowlevel.add_instrument(self.watchdog)

    def _end_observing(self) -> None:
        self.watchdog.end()
        with contextlib.suppress(KeyError):  # there was none, or Trio has removed one that failed
            trio.lowlevel.remove_instrument(self.watchdog)

    async def _run_with_app(
        self, app: AppHandler, serving: ServeScope, work: Callable[[], Awaitable[None]]
    ) -> None:
        """Run one call within the app's lifespan; draining while the app starts ends the call."""
        with trio.CancelScope() as starting:
            self._starting.add(starting)
            try:
                async with app.lifespan.running(shutdown_timeout=self.options.drain_timeout):
                    self._starting.discard(starting)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._drain_after_failure, app)
                        nursery.start_soon(self._announce_drain, app, serving)
                        nursery.start_soon(app.calls.run)
                        await serving.run(work)
                        nursery.cancel_scope.cancel()
            finally:
                self._starting.discard(starting)

    async def _drain_after_failure(self, app: AppHandler) -> None:
        """End all calls when the app's lifespan has ended by itself: `running` then raises."""
        await app.lifespan.failed.wait()
        await self.drain()

    async def _announce_drain(self, app: AppHandler, serving: ServeScope) -> None:
        """Let the hubs that run in the app's lifespan know when the server drains."""
        await serving.drain_began.wait()
        assert serving.drained_since is not None
        await app.lifespan.drain.run(serving.drained_since, self.options.drain_timeout)

    def problems(self) -> list[str]:
        """Return why the calls are not ready for clients; see `Server.problems`."""
        serving = self._manager.serve_scopes
        if not serving:
            return ["not_serving"]
        problems = []
        if any(scope.is_draining or scope.accepting.cancel_called for scope in serving):
            problems.append("draining")
        if self._app is not None and not self._app.lifespan.is_up:
            problems.append("app_not_running")
        return problems

    # The end of all calls

    def stop_accepting(self) -> None:
        """Close the listening sockets; see `Server.stop_accepting`."""
        for serving in self._manager.serve_scopes:
            serving.accepting.cancel()

    async def drain(self) -> None:
        """Shut down gracefully; see `Server.drain`."""
        for scope in self._starting:
            scope.cancel()
        scopes = list(self._manager.serve_scopes)
        for serving in scopes:
            serving.stop_accepting()
        drain_timeout = self.options.drain_timeout
        streams = [one for serving in scopes for one in (*serving.streams.values(), *serving.app_responses)]

        def app_responses() -> list[OpenResponse]:
            return [one for serving in scopes for one in serving.app_responses]

        end_later = partial(end_app_responses, app_responses, set(streams), drain_timeout=drain_timeout)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_later)
            with trio.move_on_after(drain_timeout):
                await end_streams(streams, drain_timeout=drain_timeout)
                await _wait_ended(scopes)
            nursery.cancel_scope.cancel()
        for serving in scopes:
            serving.cancel_connections()
        await _wait_ended(scopes)


async def _wait_ended(scopes: Iterable[ServeScope]) -> None:
    for serving in scopes:
        await serving.ended.wait()

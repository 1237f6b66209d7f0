"""Running an ASGI app on our server, for requests that no route takes; and the streams in its responses.

The app is called in the connection's task. A stream of `trio_sse.quart` or `trio_sse.asgi` finds the `Stage`
of its request in the scope, and through it gets the connection itself: it is written to directly, shares
encodings with all others, and lives in the scopes of any other stream.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from functools import partial
from typing import Protocol, final

import trio

from .._asgi.response_stream import Launch, padding
from .._asgi.types import STREAMS, ASGIApp, Scope
from .._http.exceptions import HTTPException
from .._http.request import Request
from .._stream.closing import linger_if_unread
from .._stream.connection import Connection, ResponseStart
from .._stream.end_reason import EndReason
from .._stream.lifecycle import Handle, run_stream
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .._transport.socket import SocketTransport
from .._wire.message import Framing
from .admission import Admission
from .app_cycle import AppCall, ClientDisconnected
from .app_lifespan import Lifespan
from .body import BodyReader
from .request_reader import RoutedRequest

logger = logging.getLogger("trio_sse.app")


class Successor(Protocol):
    """Goes on with a transport when a stream that an app had begun is over."""

    def __call__(
        self,
        transport: Transport,
        serving: ServeScope,
        buffer: bytearray,
        routed: RoutedRequest,
        launch: Launch,
        handle: Handle,
    ) -> Awaitable[None]: ...


@final
class AppHost:
    """Calls one app."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.lifespan = Lifespan(app)
        self._app = app
        self._admission = admission

    async def answer(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        body: BodyReader,
        *,
        write_timeout: float,
        successor: Successor,
    ) -> bool | None:
        """Have the app answer a request; return whether the transport may carry another one.

        `None` is returned if a stream has taken the transport over: it is `successor`'s, in another task.

        Raises:
            HTTPException: the app hasn't answered; the connection is not to be used again.
        """
        if not self.lifespan.is_up:
            raise HTTPException(503, "the app is not running")
        call = AppCall(
            transport,
            serving,
            routed.request,
            body,
            may_keep_alive=routed.may_keep_alive,
            write_timeout=write_timeout,
        )
        stage = AppStage(self._admission, call, transport, serving, routed, successor)
        scope = self._scope(transport, routed, stage)
        failed = False
        try:
            await self._app(scope, call.receive, call.send)
        except* ClientDisconnected:
            logger.debug("peer=%s is gone", transport.peer)
        except* Exception as failure:
            failed = True
            path = routed.request.target.partition("?")[0]
            errors = failure.exceptions
            logger.error(
                "the app failed for path=%.200s", path, exc_info=errors[0] if len(errors) == 1 else failure
            )
        finally:
            stage.close()
            await call.stop_watching()
        if stage.has_taken_over:
            # Frameworks keep the scope and the two callables while the stream may look at its request.
            scope.clear()
            call.forget()
            return None
        if stage.outcome is not None:
            return stage.outcome and routed.may_keep_alive and not body.buffer
        if not call.has_begun:
            if call.is_disconnected and call.refusal is None:
                return False
            if not failed and call.refusal is None:
                logger.error("the app returned without a response")
            raise call.refusal or HTTPException(500)
        if not call.is_complete or transport.pending is not None:
            if not (failed or call.is_disconnected):
                logger.error("the app returned before its response was complete")
            await transport.aclose(abort=True)  # so that nobody takes it for the whole
            return False
        if not body.is_complete:
            await transport.linger()
            return False
        return call.may_keep_alive

    def _scope(self, transport: Transport, routed: RoutedRequest, stage: AppStage) -> Scope:
        request = routed.request
        raw_path, _, query = request.target.partition("?")
        client, server = transport.endpoints
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": request.http_version,
            "method": request.method,
            "scheme": "https" if transport.is_secure else "http",
            "path": request.path,
            "raw_path": raw_path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": request.headers.raw(),
            "client": client,
            "server": server,
            "state": self.lifespan.state.copy(),
            "extensions": {STREAMS: stage},
        }


@final
class AppStage:
    """The `Stage` of a request on our server.

    Attributes:
        has_taken_over: a stream answers the request, and the transport is its own.
        outcome: of a stream that has run inside of the app.
    """

    __slots__ = (
        "_admission",
        "_begun",
        "_call",
        "_launch",
        "_routed",
        "_serving",
        "_successor",
        "_transport",
        "has_taken_over",
        "outcome",
    )

    def __init__(
        self,
        admission: Admission,
        call: AppCall,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        successor: Successor,
    ) -> None:
        self.has_taken_over = False
        self.outcome: bool | None = None
        self._admission = admission
        self._call = call
        self._transport = transport
        self._serving = serving
        self._routed = routed._replace(app_body=None)
        self._successor = successor
        self._launch: Launch | None = None
        self._begun = trio.lowlevel.ParkingLot()

    @property
    def request(self) -> Request:
        return self._routed.request

    @property
    def serving(self) -> ServeScope:
        return self._serving

    @property
    def _framing(self) -> Framing:
        return Framing.CHUNKED if self.request.http_version == "1.1" else Framing.PLAIN

    # A stream that runs inside of the app's call

    def serving_for(self, manager: StreamManager) -> ServeScope:
        return self._serving

    def lease(self, manager: StreamManager, request: Request, response_start: ResponseStart) -> Connection:
        self._check()
        self._transport.framing = self._framing
        connection = Connection(self._serving, manager, self._transport, request, response_start)
        self._call.on_start = partial(self._begin, connection)
        return connection

    def _begin(self, connection: Connection) -> None:
        connection.set_head(self._call.begin_stream() + padding(self.request, self._framing))
        self._begun.unpark_all()

    async def wait_started(self, connection: Connection) -> None:
        while connection.response_start is not None:
            await self._begun.park()

    async def run(self, connection: Connection, handle: Handle) -> Exception | bool:
        await self._call.stop_watching()
        self._admission.enter(self._transport)
        try:
            outcome = await run_stream(self._serving, connection, handle)
        finally:
            self._admission.leave(self._transport)
            self._call.on_start = None
        if isinstance(outcome, bool):
            self.outcome = outcome
            if not outcome:
                await linger_if_unread(connection)
        return outcome

    # A stream that outlives the app's call

    def launch(self, manager: StreamManager, handle: Handle, name: str) -> Launch:
        self._check()
        launch = self._launch = Launch()
        self._transport.framing = self._framing
        launch.connection = Connection(self._serving, manager, self._transport, self.request, launch)
        self._serving.connections.start_soon(
            self._successor,
            self._transport,
            self._serving,
            self._call.buffer,
            self._routed,
            launch,
            handle,
            name=name,
        )
        return launch

    async def carry(self, launch: Launch) -> None:
        await self._call.stop_watching()
        head = self._call.begin_stream() + padding(self.request, self._framing)
        self.has_taken_over = launch.is_taken_over = True
        launch.begin(head)
        if isinstance(self._transport, SocketTransport) and self._serving.disconnects is not None:
            self._serving.disconnects.add(self._transport, launch.connection)

    def _check(self) -> None:
        if self._launch is not None or self.outcome is not None:
            raise RuntimeError("a request can be answered with one stream only")
        self._admission.check(self._transport, self._serving)

    def close(self) -> None:
        """End a handler that has begun to run for a response that was never sent."""
        if self._launch is not None and not self.has_taken_over:
            is_gone = self._call.is_disconnected
            self._launch.abandon(EndReason.CLIENT_DISCONNECTED if is_gone else EndReason.REFUSED)

"""The ASGI app on our server, for requests that no route takes: its lifespan, its calls and their scopes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import final

import trio

from .._asgi.asyncio_advice import AsyncioAdvice
from .._asgi.types import STREAMS, ASGIApp, Scope
from .._http.exceptions import HTTPException
from .._http.request import raw_fields
from .._request.request_reader import RoutedRequest
from .._request.tls_extension import tls_extension
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .background import OngoingCalls
from .call import Answered, AppCall, CallContext
from .lifespan import Lifespan
from .root_path import paths_of_scope


@final
class AppHandler:
    """Calls one app.

    Attributes:
        app: the app.
        lifespan: the app's.
        advice: looks at the app's failures.
        calls: those that go on. While connections are served, they must `run`.
    """

    def __init__(self, app: ASGIApp, *, root_path: str = "") -> None:
        self.app = app
        self.advice = AsyncioAdvice()
        self.lifespan = Lifespan(app, self.advice)
        self.calls = OngoingCalls()
        self._root_path = root_path

    def answer(
        self,
        context: CallContext,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        scope: trio.CancelScope,
    ) -> Awaitable[Answered]:
        """Have the app answer a request; what is returned is awaited at once, within `scope`.

        The connection has been closed, or belongs to another task, if that raises an exception.

        Raises:
            HTTPException: the app is not running; the connection must not be used again after the answer.
        """
        if not self.lifespan.is_up:
            raise HTTPException(503, "the app is not running")
        call = AppCall(context, transport, serving, routed, scope)
        return call.run(self.app, self.scope(transport, routed, {STREAMS: call.stream}))

    def scope(self, transport: Transport, routed: RoutedRequest, extensions: dict[str, object]) -> Scope:
        """Return the scope of a request."""
        request = routed.request
        client, server = transport.endpoints
        if (session := transport.tls_session) is not None:
            extensions["tls"] = tls_extension(session)
        target, _, query = request.target.partition("?")
        path, raw_path, root_path = paths_of_scope(
            transport, request.path, target.encode("ascii"), self._root_path
        )
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version,
            "method": request.method,
            "scheme": "https" if transport.is_secure else "http",
            "path": path,
            "raw_path": raw_path,
            "root_path": root_path,
            "query_string": query.encode("ascii"),
            "headers": raw_fields(request.headers),
            "client": client,
            "server": server,
            "state": self.lifespan.state.copy(),
            "extensions": extensions,
        }

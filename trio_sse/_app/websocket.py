"""The WebSockets of an ASGI app on our server: their admission, and the scope of the call for each."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import final

from .._asgi.types import Receive, Scope, Send
from .._http.exceptions import HTTPException
from .._http.websocket_handshake import offered_subprotocols
from .._request.admission import Admission
from .._request.request_reader import RoutedRequest
from .._request.results import AfterResponse
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .app import AppHandler
from .call import Answered
from .websocket_call import WebSocketCall, WebSocketCallContext
from .websocket_identity import CONNECTION, AppWebSocketConnection

# Over HTTP/2, the handshake has none of these: they were added to make it that of HTTP/1.1.
_UPGRADE_FIELDS = frozenset((b"connection", b"upgrade", b"sec-websocket-key"))


@final
class AppWebSockets:
    """Calls an app for the WebSockets of its clients."""

    def __init__(self, app: AppHandler, admission: Admission, context: WebSocketCallContext) -> None:
        self._app = app
        self._admission = admission
        self._context = context

    async def answer(self, transport: Transport, serving: ServeScope, routed: RoutedRequest) -> Answered:
        """Have the app answer a handshake, and run the WebSocket if it accepts.

        The connection has been closed if this raises an exception.
        """

        def call_app(connection: AppWebSocketConnection, receive: Receive, send: Send) -> Awaitable[None]:
            return self._app.app(self._scope(transport, routed, connection), receive, send)

        try:
            if not self._app.lifespan.is_up:
                raise HTTPException(503, "the app is not running")
            self._admission.check(transport, serving)
        except HTTPException as refusal:
            return Answered(AfterResponse.CLOSE, transport, refusal)
        self._admission.enter(transport)
        try:
            return await WebSocketCall(self._context, transport, serving, routed, call_app).run()
        except BaseException:
            await transport.aclose(abort=True)
            raise
        finally:
            self._admission.leave(transport)

    def _scope(
        self, transport: Transport, routed: RoutedRequest, connection: AppWebSocketConnection
    ) -> Scope:
        """Return the scope of a call (ASGI's WebSocket specification, "Connection Scope")."""
        scope = self._app.scope(transport, routed, {"websocket.http.response": {}, CONNECTION: connection})
        del scope["method"]
        scope["type"] = "websocket"
        scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
        scope["scheme"] = {"http": "ws", "https": "wss"}[scope["scheme"]]
        scope["subprotocols"] = offered_subprotocols(routed.request.headers)
        if scope["http_version"] == "2":
            scope["headers"] = [field for field in scope["headers"] if field[0] not in _UPGRADE_FIELDS]
        return scope

"""Calling an ASGI app on our server, for requests that no route takes."""

from __future__ import annotations

import logging
from typing import final

from .._asgi.types import STREAMS, ASGIApp, Scope
from .._http.exceptions import HTTPException
from .._http.request import raw_fields
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .admission import Admission
from .app_cycle import ClientDisconnected, RequestResponseCycle
from .app_lifespan import Lifespan
from .app_stream import AppStream, ResumeServing
from .body import BodyReader
from .request_reader import RoutedRequest
from .results import AfterResponse

logger = logging.getLogger("trio_sse.app")


@final
class AppHandler:
    """Calls one app, in the task of the connection.

    Attributes:
        lifespan: the app's.
    """

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
        resume_serving: ResumeServing,
    ) -> AfterResponse:
        """Have the app answer a request, and return what becomes of its transport.

        If that is `HANDED_OVER`, a stream in another task writes to it, and `resume_serving` continues there.

        Raises:
            HTTPException: the app has not answered. The connection must not be used again.
        """
        if not self.lifespan.is_up:
            raise HTTPException(503, "the app is not running")
        cycle = RequestResponseCycle(
            transport,
            serving,
            routed.request,
            body,
            may_keep_alive=routed.may_keep_alive,
            write_timeout=write_timeout,
        )
        stream = AppStream(self._admission, cycle, transport, serving, routed, resume_serving)
        scope = self._scope(transport, routed, stream)
        has_failed = False
        try:
            has_failed = await self._call(scope, cycle, transport, routed)
        finally:
            stream.close()
            await cycle.stop_watching()
        if stream.is_detached:
            # Frameworks keep the scope and the two callables as long as the stream may use its request.
            scope.clear()
            cycle.release()
            return AfterResponse.HANDED_OVER
        if stream.ended is not None:
            may_reuse = stream.ended.may_reuse and routed.may_keep_alive and not body.buffer
            return AfterResponse.reuse_if(may_reuse)
        return await self._finish(cycle, transport, serving, body, has_failed=has_failed)

    async def _call(
        self, scope: Scope, cycle: RequestResponseCycle, transport: Transport, routed: RoutedRequest
    ) -> bool:
        """Call the app; return whether it has failed, which is logged."""
        has_failed = False
        try:
            await self._app(scope, cycle.receive, cycle.send)
        except* ClientDisconnected:
            logger.debug("peer=%s has disconnected", transport.peer)
        except* Exception as failure:
            path = routed.request.target.partition("?")[0]
            errors = failure.exceptions
            logger.error(
                "the app failed for path=%.200s", path, exc_info=errors[0] if len(errors) == 1 else failure
            )
            has_failed = True
        return has_failed

    async def _finish(
        self,
        cycle: RequestResponseCycle,
        transport: Transport,
        serving: ServeScope,
        body: BodyReader,
        *,
        has_failed: bool,
    ) -> AfterResponse:
        """Check what the app has sent, now that it has returned."""
        if not cycle.has_begun:
            if cycle.is_disconnected and cycle.refusal is None:
                return AfterResponse.CLOSE
            if not has_failed and cycle.refusal is None:
                logger.error("the app returned without a response")
            raise cycle.refusal or HTTPException(500)
        if not cycle.is_complete or transport.pending is not None:
            if not (has_failed or cycle.is_disconnected):
                logger.error("the app returned before its response was complete")
            await transport.aclose(abort=True)  # so that no client takes it for complete
            return AfterResponse.CLOSE
        if not body.is_complete:
            await serving.linger(transport)
            return AfterResponse.CLOSE
        return AfterResponse.reuse_if(cycle.may_keep_alive)

    def _scope(self, transport: Transport, routed: RoutedRequest, stream: AppStream) -> Scope:
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
            "headers": raw_fields(request.headers),
            "client": client,
            "server": server,
            "state": self.lifespan.state.copy(),
            "extensions": {STREAMS: stream},
        }

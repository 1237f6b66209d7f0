"""Calling an ASGI app on our server, for requests that no route takes."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, final

from .._asgi.types import STREAMS, ASGIApp, Scope
from .._groups import leaf_exceptions, only_exception, split_failure
from .._http.exceptions import HTTPException
from .._http.request import raw_fields
from .._logger import get_logger
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .admission import Admission
from .app_cycle import ClientDisconnected, RequestResponseCycle
from .app_lifespan import Lifespan
from .app_stream import AppStream, ResumeServing
from .body import BodyReader
from .request_reader import RoutedRequest
from .results import AfterResponse
from .root_path import paths_of_scope

logger = get_logger("trio_sse.app")

# How far to look for the reason of an exception: a chain may be a circle.
_MOST_CAUSES = 20


class Answered(NamedTuple):
    """The app has answered.

    Attributes:
        after: what becomes of the transport.
        transport: the handle that is to be used further, or closed. A stream in another task may own the
            connection; then this handle is MOVED.
        refusal: the answer, if the app has not answered. The connection must not be used again after it.
    """

    after: AfterResponse
    transport: Transport
    refusal: HTTPException | None = None


@final
class AppHandler:
    """Calls one app, in the task of the connection.

    Attributes:
        app: the app.
        lifespan: the app's.
    """

    def __init__(self, app: ASGIApp, admission: Admission, *, root_path: str = "") -> None:
        self.app = app
        self.lifespan = Lifespan(app)
        self._root_path = root_path
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
    ) -> Answered:
        """Have the app answer a request.

        The connection has been closed if this raises an exception.
        """
        if not self.lifespan.is_up:
            refusal = HTTPException(503, "the app is not running")
            return Answered(AfterResponse.CLOSE, transport, refusal)
        cycle = RequestResponseCycle(
            transport,
            serving,
            routed.request,
            body,
            may_keep_alive=routed.may_keep_alive,
            write_timeout=write_timeout,
        )
        buffer = body.buffer
        stream = AppStream(self._admission, cycle, buffer, serving, routed, resume_serving)
        scope = self.scope(transport, routed, {STREAMS: stream})
        try:
            has_failed = await cycle.watcher.run(partial(self._call, scope, cycle, stream, routed))
            if stream.is_detached:
                # Frameworks keep the scope and the two callables as long as the stream may use its request.
                scope.clear()
                cycle.release()
                return Answered(AfterResponse.CLOSE, cycle.transport)
            if stream.ended is not None:
                after = AfterResponse.CLOSE if buffer else stream.ended
            else:
                after = await self._finish(cycle, cycle.transport, serving, body, has_failed=has_failed)
            return Answered(after, cycle.transport)
        except HTTPException as refusal:
            return Answered(AfterResponse.CLOSE, cycle.transport, refusal)
        except BaseException:
            await cycle.transport.aclose(abort=True)
            raise

    async def _call(
        self, scope: Scope, cycle: RequestResponseCycle, stream: AppStream, routed: RoutedRequest
    ) -> bool:
        """Call the app; return whether it has failed, which is logged."""
        try:
            with cycle.call:
                await self.app(scope, cycle.receive, cycle.send)
        except BaseException as failure:
            passing, contained = split_failure(failure)
            if contained is not None and not (cycle.is_disconnected and is_of_disconnect(contained)):
                path = routed.request.target.partition("?")[0]
                logger.error("the app failed for path=%.200s", path, exc_info=only_exception(contained))
            elif contained is not None:
                logger.debug("peer=%s has disconnected", cycle.transport.peer)
            if passing is not None:
                raise passing from None
            return True
        finally:
            stream.close()
        return False

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

    def scope(self, transport: Transport, routed: RoutedRequest, extensions: dict[str, object]) -> Scope:
        """Return the scope of a request."""
        request = routed.request
        client, server = transport.endpoints
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version,
            "method": request.method,
            "scheme": "https" if transport.is_secure else "http",
            **paths_of_scope(transport, request, self._root_path),
            "query_string": request.query_string.encode("ascii"),
            "headers": raw_fields(request.headers),
            "client": client,
            "server": server,
            "state": self.lifespan.state.copy(),
            "extensions": extensions,
        }


def is_of_disconnect(failure: BaseException) -> bool:
    """Whether an exception from the app is ours about a disconnect, or was raised because of it."""
    if isinstance(failure, BaseExceptionGroup):
        return all(is_of_disconnect(error) for error in leaf_exceptions(failure))
    cause: BaseException | None = failure
    for _ in range(_MOST_CAUSES):
        if cause is None or isinstance(cause, ClientDisconnected):
            return cause is not None
        cause = cause.__cause__ or cause.__context__
    return False

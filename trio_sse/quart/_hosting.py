"""What a Quart app runs for its streams: services in its own nursery, and a wrapper around its ASGI callable.

Both matter only on servers that are not ours. On `trio_sse.Server` a stream uses the server's own services.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import trio

from .._asgi.foreign_server import ForeignStreamExtension
from .._asgi.response_guard import GUARD, ResponseGuard, find_guard
from .._asgi.response_stream import StreamExtension
from .._asgi.types import STREAMS, ASGIApp, Receive, Scope, Send
from .._hub.app_drain import AppDrain, current_app_drain
from .._stream.draining import end_streams
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope


@final
class AppServices:
    """What runs in the app's nursery: the hub, and what streams share on servers that are not ours."""

    def __init__(self, manager: StreamManager, drain_timeout: float) -> None:
        self.serving = manager.new_serve_scope(drain_timeout=drain_timeout)
        self._drain_timeout = drain_timeout
        self._is_stopping = trio.Event()
        self._has_ended = trio.Event()
        self._app_drain: AppDrain | None = None  # of a server of ours

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run until `stop` is called or this is cancelled."""

        async def wait_stopping() -> None:
            task_status.started()
            await self._is_stopping.wait()

        self._app_drain = current_app_drain()
        try:
            await self.serving.run(wait_stopping)
        finally:
            self._has_ended.set()

    async def stop(self) -> None:
        """End the streams that are still open, then the hub."""
        self.serving.stop_accepting(None if self._app_drain is None else self._app_drain.since)
        self._is_stopping.set()
        with trio.move_on_after(self._drain_timeout):
            await end_streams(list(self.serving.streams.values()), drain_timeout=self._drain_timeout)
            await self._has_ended.wait()
            return
        self.serving.cancel_connections()
        await self._has_ended.wait()


@final
class StreamMiddleware:
    """The app's ASGI callable, with a `StreamExtension` in the scope where the server provides none."""

    def __init__(self, app: ASGIApp, find_serving: Callable[[], ServeScope | None]) -> None:
        """Wrap `app`; `find_serving` returns the scope of its services, or `None` while they do not run."""
        self._app = app
        self._find_serving = find_serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions: Mapping[str, Any] = scope.get("extensions") or {}
        serving = self._find_serving()
        offered: StreamExtension | None = extensions.get(STREAMS)
        if offered is not None:
            offered.send_through(send)
        if scope["type"] != "http" or serving is None or offered is not None:
            await self._app(scope, receive, send)
            return
        guard = outer_guard = find_guard(scope)
        if guard is None:
            guard = ResponseGuard(scope, receive, send)
            receive, send = guard.receive, guard.send
        extension = ForeignStreamExtension(serving, scope, receive, send, guard)
        scope["extensions"] = {**extensions, STREAMS: extension, GUARD: guard}
        try:
            await self._app(scope, extension.receive, extension.send)
        finally:
            extension.close()
        if outer_guard is None:
            await guard.finish()

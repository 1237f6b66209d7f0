"""An ASGI app's lifespan: the app starts before the first request and shuts down after the last.

An app without support for lifespans raises when it is called with one, and is then served without (ASGI's
lifespan specification, "Scope").
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, final

import trio

from .._asgi.types import ASGIApp, Message

logger = logging.getLogger("trio_sse.app")

_STARTUP_SECONDS = 60.0


class AppStartupError(RuntimeError):
    """The app could not be started."""


@final
class Lifespan:
    """One app's lifespan, which one call to serve runs and others share.

    Attributes:
        is_up: whether the app accepts requests.
        state: the state that the app has set, for the scopes of requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.is_up = False
        self.state: dict[str, Any] = {}
        self._app = app
        self._is_owned = False

    @asynccontextmanager
    async def running(self, *, shutdown_timeout: float) -> AsyncIterator[None]:
        """Start the app, unless it is up, and shut it down at the end, within `shutdown_timeout` seconds.

        Raises:
            AppStartupError: it could not be started.
        """
        if self._is_owned:
            yield
            return
        self._is_owned = True
        failure: AppStartupError | None = None
        try:
            async with trio.open_nursery() as nursery:
                run = _Run(self._app, self.state)
                scope = trio.CancelScope(shield=True)
                nursery.start_soon(run.run, scope)
                try:
                    await run.start()
                    self.is_up = True
                    yield
                except AppStartupError as error:
                    failure = error
                finally:
                    self.is_up = False
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + shutdown_timeout):
                        await run.stop()
                    scope.cancel()
        finally:
            self._is_owned = False
            self.state = {}
        if failure is not None:
            raise failure


@final
class _Run:
    """One call of the app with a lifespan scope."""

    def __init__(self, app: ASGIApp, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state
        self._to_app, self._of_app = trio.open_memory_channel[Message](2)
        self._started = trio.Event()
        self._stopped = trio.Event()
        self._failure: str | None = None
        self._is_supported = True

    async def run(self, scope: trio.CancelScope) -> None:
        """Call the app, until it returns or `scope` is cancelled."""
        lifespan = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        with scope, self._to_app, self._of_app:
            try:
                await self._app(lifespan, self._of_app.receive, self._send)
            except* Exception as failure:
                self._is_supported = False
                if self._started.is_set():
                    logger.error("the app's lifespan failed", exc_info=failure)
                elif self._failure is None:
                    logger.info("the app has no lifespan: %r", failure.exceptions[0])
            finally:
                self._started.set()
                self._stopped.set()

    async def _send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        match message["type"]:
            case "lifespan.startup.complete":
                self._started.set()
            case "lifespan.startup.failed":
                self._failure = str(message.get("message", "")) or "no reason was given"
                self._started.set()
            case "lifespan.shutdown.complete":
                self._stopped.set()
            case "lifespan.shutdown.failed":
                logger.error("the app's shutdown failed: %s", message.get("message", ""))
                self._stopped.set()
            case kind:
                raise RuntimeError(f"the app sends {kind!r}, which is no message of a lifespan")

    async def start(self) -> None:
        """Wait until the app has started, or raise `AppStartupError`."""
        self._to_app.send_nowait({"type": "lifespan.startup"})
        with trio.move_on_after(_STARTUP_SECONDS):
            await self._started.wait()
            if self._failure is not None:
                raise AppStartupError(f"the app could not start: {self._failure}")
            return
        raise AppStartupError(f"the app did not start within {_STARTUP_SECONDS:g} s")

    async def stop(self) -> None:
        """Tell the app to shut down, and wait until it has."""
        if (
            self._started.is_set()
            and self._is_supported
            and self._failure is None
            and not self._stopped.is_set()
        ):
            self._to_app.send_nowait({"type": "lifespan.shutdown"})
            await self._stopped.wait()

"""An ASGI app's lifespan: the app starts before the first request and shuts down after the last.

An app without support for lifespans raises when it is called with one, and is then served without (ASGI's
lifespan specification, "Scope").

An app that has started and whose lifespan ends before it was asked to is broken: in Trio, its background
tasks have ended with it. It must not go on being served by accident.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, final

import trio

from .._asgi.asyncio_advice import AsyncioAdvice
from .._asgi.types import ASGIApp, Message
from .._generators import closing_generators, watching_generators
from .._groups import only_exception, split_failure
from .._hub.app_drain import AppDrain
from .._logger import get_logger

logger = get_logger("trio_sse.app")

_STARTUP_SECONDS = 60.0


class AppStartupError(RuntimeError):
    """The app could not be started."""


class AppLifespanError(RuntimeError):
    """The app's lifespan has ended while the app was served."""


@final
class Lifespan:
    """One app's lifespan, which one call to serve runs and others share.

    Attributes:
        is_up: whether the app accepts requests.
        state: the state that the app has set, for the scopes of requests.
        failed: set when the app's lifespan has ended while the app was served.
        drain: tells the hubs that run in it that the app's server drains.
    """

    def __init__(self, app: ASGIApp, advice: AsyncioAdvice | None = None) -> None:
        self.is_up = False
        self.failed = trio.Event()
        self.drain = AppDrain()
        self.state: dict[str, Any] = {}
        self._app = app
        self._advice = AsyncioAdvice() if advice is None else advice
        self._is_owned = False

    @asynccontextmanager
    async def running(self, *, shutdown_timeout: float) -> AsyncIterator[None]:
        """Start the app, unless it is up, and shut it down at the end, within `shutdown_timeout` seconds.

        Raises:
            AppStartupError: it could not be started.
            AppLifespanError: its lifespan has ended before that.
        """
        if self._is_owned:
            yield
            return
        self._is_owned = True
        self.failed = trio.Event()
        self.drain = AppDrain()
        failure: RuntimeError | None = None
        try:
            async with trio.open_nursery() as nursery:
                run = _Run(self._app, self._advice, self.state, self._on_end, self.drain)
                scope = trio.CancelScope(shield=True)
                nursery.start_soon(run.run, scope)
                try:
                    await run.start()
                    self.is_up = True
                    if run.has_failed:
                        self._on_end()
                    yield
                except AppStartupError as error:
                    failure = error
                finally:
                    self.is_up = False
                    deadline = trio.current_time() + shutdown_timeout
                    with trio.CancelScope(shield=True, deadline=deadline) as stopping:
                        await run.stop()
                    if stopping.cancelled_caught:
                        logger.warning("the app is cancelled: no shutdown within %g s", shutdown_timeout)
                    scope.cancel()
        finally:
            self._is_owned = False
            self.state = {}
        if failure is None and self.failed.is_set():
            failure = AppLifespanError("the app's lifespan has ended while the app was served")
        if failure is not None:
            raise failure

    def _on_end(self) -> None:
        """Record that the lifespan has ended by itself; while the app starts, it is not up yet."""
        if self.is_up:
            self.is_up = False
            self.failed.set()


@final
class _Run:
    """One call of the app with a lifespan scope.

    Attributes:
        has_failed: it has ended before it was asked to, though the app has started.
    """

    def __init__(
        self,
        app: ASGIApp,
        advice: AsyncioAdvice,
        state: dict[str, Any],
        on_end: Callable[[], None],
        drain: AppDrain,
    ) -> None:
        self.has_failed = False
        self._app = app
        self._advice = advice
        self._on_end = on_end
        self._is_stopping = False
        self._drain = drain
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
        with scope, self._to_app, self._of_app, self._drain.current(), watching_generators():
            try:
                with trio.CancelScope():  # it ends those that the app has left open
                    await closing_generators(self._app(lifespan, self._of_app.receive, self._send))
                if self._started.is_set() and self._failure is None and not self._is_stopping:
                    logger.error("the app's lifespan has ended while the app is served")
            except BaseException as failure:
                passing, contained = split_failure(failure)
                self._is_supported = False
                if contained is not None:
                    self._advice.note(contained)
                if contained is not None and self._started.is_set():
                    what = "the app's lifespan failed" if self._failure is None else "the app could not start"
                    logger.error(what, exc_info=only_exception(contained))
                elif contained is not None and self._failure is None:
                    logger.info("the app has no lifespan: %r", only_exception(contained))
                if passing is not None:
                    raise passing from None
            finally:
                self.has_failed = self._started.is_set() and self._failure is None and not self._is_stopping
                self._started.set()
                self._stopped.set()
                if self.has_failed:
                    self._on_end()

    async def _send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        match message["type"]:
            case "lifespan.startup.complete" | "lifespan.startup.failed" as kind if self._started.is_set():
                raise RuntimeError(f"the app sends {kind!r}, but it has started, or failed to")
            case "lifespan.shutdown.complete" if not self._is_stopping:
                raise RuntimeError(
                    "the app sends 'lifespan.shutdown.complete' before it was asked to shut down"
                )
            case "lifespan.startup.complete":
                self._started.set()
            case "lifespan.startup.failed":
                # The message of Starlette is a whole traceback, which is logged when it raises the error.
                lines = str(message.get("message", "")).strip().splitlines()
                self._failure = lines[-1].strip() if lines else "no reason was given"
                self._started.set()
            case "lifespan.shutdown.complete":
                self._stopped.set()
            case "lifespan.shutdown.failed":
                logger.error("the app's shutdown failed: %s", message.get("message", ""))
                self._stopped.set()
            case kind:
                raise RuntimeError(f"the app sends {kind!r}, which is not a lifespan message")

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
        """Ask the app to shut down, and wait until it has."""
        self._is_stopping = True
        if (
            self._started.is_set()
            and self._is_supported
            and self._failure is None
            and not self._stopped.is_set()
        ):
            self._to_app.send_nowait({"type": "lifespan.shutdown"})
            await self._stopped.wait()

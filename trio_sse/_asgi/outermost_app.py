"""An app as a server that is not ours calls it, and what is open in it when the server drains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, final

import trio

from .._generators import closing_generators
from .._groups import as_exception, split_failure
from .._http.exceptions import TemporaryRefusal
from .._stream.draining import end_app_responses, end_streams
from .._stream.scope import ServeScope
from .asyncio_advice import AsyncioAdvice
from .client_disconnected import is_of_disconnect
from .disconnect_flood import DisconnectFlood
from .foreign_server import DRAIN_REGISTRY
from .response_guard import GUARD, ResponseGuard
from .scope_object import ScopeObject
from .stream_slot import STREAM_SLOT, StreamSlot
from .surviving_send import SurvivingSend
from .types import ASGIApp, Receive, Scope, Send
from .websocket_guard import Handshakes, WebSocketGuard


@final
class OpenWork(ScopeObject):
    """What is open on this server and must end when it drains; see `DrainRegistry`."""

    nursery: trio.Nursery  # outlives the calls of the app; set before the first one

    def __init__(self) -> None:
        self.waiting: set[trio.CancelScope] = set()
        self.is_draining = False
        self._open_calls = 0
        self._scopes: set[ServeScope] = set()
        self._calls: set[ResponseGuard] = set()  # that answer with a stream or poll
        self._responses: dict[ResponseGuard, None] = {}  # of all calls that are open, the oldest first
        self._changed = trio.lowlevel.ParkingLot()

    def check(self) -> None:
        if self.is_draining:
            raise TemporaryRefusal(503, "the server is shutting down")

    def enter(self, serving: ServeScope, guard: ResponseGuard | None) -> None:
        self.check()
        self._scopes.add(serving)
        if guard is not None:
            self._calls.add(guard)

    def forget(self, serving: ServeScope) -> None:
        self._scopes.discard(serving)

    def on_call(self, guard: ResponseGuard) -> None:
        """Record that the app is called for a request."""
        self._responses[guard] = None

    def on_call_end(self, guard: ResponseGuard) -> None:
        """Record that the app's call for a request has ended."""
        self._responses.pop(guard, None)
        self._calls.discard(guard)
        if not self._calls:
            self._changed.unpark_all()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call of the app."""
        self._open_calls += 1
        try:
            yield
        finally:
            self._open_calls -= 1
            if not self._open_calls:
                self._changed.unpark_all()

    async def wait_idle(self) -> None:
        """Wait until no call of the app is open."""
        while self._open_calls:
            await self._changed.park()

    async def drain(self, drain_timeout: float) -> None:
        """End all streams and polls, and wait until their responses have ended.

        The app's other responses may go on; what `end_app_responses` ends, it ends in the nursery.
        """
        self.is_draining = True
        for scope in list(self.waiting):
            scope.cancel()
        own = [stream for scope in self._scopes for stream in scope.streams.values()]
        others = self._app_responses()
        end_later = partial(end_app_responses, self._app_responses, set(others), drain_timeout=drain_timeout)
        self.nursery.start_soon(end_later)
        await end_streams([*own, *others], drain_timeout=drain_timeout)
        while self._calls:
            await self._changed.park()

    def _app_responses(self) -> list[ResponseGuard]:
        """Return the responses that are being sent, and are no streams of this package."""
        return [guard for guard in self._responses if guard.is_being_sent and guard not in self._calls]


class AppLife(Protocol):
    """The life of an app, as far as its requests need it.

    Attributes:
        is_up: whether the app accepts requests.
        state: the state that the app has set, for the scopes of requests.
    """

    is_up: bool
    state: dict[str, Any]


@final
class OutermostApp:
    """The app as hypercorn calls it.

    It adds to the scopes of requests what streams need, and lets nothing that the app raises end hypercorn.
    The app's lifespan is not hypercorn's, which starts and ends more often than the app.
    """

    def __init__(
        self,
        app: ASGIApp,
        life: AppLife,
        open_work: OpenWork,
        handshakes: Handshakes,
        *,
        write_timeout: float,
    ) -> None:
        self._app = app
        self._write_timeout = write_timeout
        self._life = life
        self._open_work = open_work
        self._flood = DisconnectFlood()
        self._advice = AsyncioAdvice()
        self._handshakes = handshakes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        extensions = {**(scope.get("extensions") or {}), DRAIN_REGISTRY: self._open_work}
        extensions[STREAM_SLOT] = StreamSlot()
        extensions.pop("http.response.trailers", None)  # the guard sends none
        of_hypercorn = scope
        # A copy, as hypercorn still reads its own when the response ends.
        scope = {**scope, "state": dict(self._life.state), "extensions": extensions}
        with self._open_work.call():
            if scope["type"] == "http":
                await self._answer(scope, receive, send)
            elif scope["type"] == "websocket":
                await self._answer_handshake(scope, of_hypercorn, receive, send)
            else:
                await self._call(scope, receive, send)

    async def _answer_handshake(
        self, scope: Scope, of_hypercorn: Scope, receive: Receive, send: Send
    ) -> None:
        guard = WebSocketGuard(scope, receive, send)
        with self._handshakes.guarded(of_hypercorn, guard):
            await guard.settle()
            if guard.is_lost:
                return
            try:
                await self._call(scope, guard.receive, guard.send)
            except Exception as error:
                if not (guard.is_lost and is_of_disconnect(error)):
                    raise
            finally:
                await guard.finish()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        surviving = SurvivingSend(send, self._open_work.nursery)
        guard = ResponseGuard(
            scope,
            receive,
            surviving,
            write_timeout=self._write_timeout,
            survives=True,
            nursery=self._open_work.nursery,
        )
        scope["extensions"][GUARD] = guard
        client = tuple(scope.get("client") or ())
        if not self._life.is_up or self._flood.is_refused(client):
            status = 429 if self._life.is_up else 503
            head = {"type": "http.response.start", "status": status, "headers": [(b"retry-after", b"10")]}
            await guard.send(head)
            await guard.send({"type": "http.response.body", "body": b""})
            return
        self._open_work.on_call(guard)
        try:
            await self._call(scope, guard.receive, guard.send)
        except Exception as error:
            if not ((guard.has_lost_client or guard.was_ended) and is_of_disconnect(error)):
                raise
        finally:
            if client and guard.is_disconnected and not guard.has_started:
                self._flood.count(client)
            try:
                await guard.finish()
            finally:
                if guard.has_unread_body:  # a `send` may wait for that
                    self._open_work.nursery.start_soon(guard.receive_rest, name="trio_sse.receive_rest")
                surviving.close()
                await surviving.settle()
                self._open_work.on_call_end(guard)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await closing_generators(self._app(scope, receive, send))
        except BaseException as failure:
            passing, contained = split_failure(failure)
            if contained is not None:
                self._advice.note(contained)
            if passing is not None or contained is None:
                raise
            raise as_exception(contained) from None  # hypercorn logs it, and answers if nobody has


async def _live(receive: Receive, send: Send) -> None:
    """Be the lifespan of an app that has nothing to start."""
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            break

"""Where a hub, and the hosts of its streams, call what traces them.

Without tracing, nothing of this file is called: the hub's parts are connected to one another directly.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVarTuple, final

from .._http.request import Request
from .._state.state import Inbox as StateInbox
from .._wire.message import Message
from .inbox import Inbox
from .pump import Place, Pump
from .sequencer import Sequencer

Ts = TypeVarTuple("Ts")

#: Calls a function with the context variables of the call to serve.
RunOutside = Callable[[Callable[[], None]], None]


class RequestSpan(Protocol):
    """The span of a request that is being answered. Begin and end it in the same task."""

    def end(self, status: int | None, error: str | None, attributes: Mapping[str, str | int]) -> None:
        """End it.

        Args:
            status: of the response; `None` if there was none.
            error: what has failed on the server's side, in one word.
        """


class PublishSpan(Protocol):
    """The span of an event that is being published."""

    def end(self, failure: BaseException | None) -> None:
        """End it: `publish` has returned, or failed."""


class DeliverySpan(Protocol):
    """The span of a batch that is being delivered."""

    def end(self, deliveries: int) -> None:
        """End it: so many events were delivered, counted for each subscriber."""


class Tracing(Protocol):
    """Makes spans, as `trio_sse.otel.Tracing` does. Nothing raises an exception."""

    def begin_request(
        self,
        request: Request,
        *,
        route: str | None,
        attributes: Mapping[str, str | int],
        run_outside: RunOutside,
    ) -> RequestSpan:
        """Begin the span of a request, which is the current span until it ends."""

    def begin_publish(self, message: Message, *, ends_when_placed: bool) -> PublishSpan:
        """Begin the span of a message that is being published, and put its context into the message."""

    def begin_delivery(self, messages: Sequence[Message]) -> DeliverySpan | None:
        """Begin the span of a batch, if some of its messages were traced when they were published."""


@final
class TracedPublisher:
    """Publishes with spans.

    Args:
        publish: the sequencer's.
        is_shared: messages are placed later, and often as another object.
    """

    def __init__(
        self,
        tracing: Tracing,
        inbox: Inbox,
        publish: Callable[[Message], Coroutine[Any, Any, None]],
        *,
        is_shared: bool,
    ) -> None:
        self._tracing = tracing
        self._inbox = inbox
        self._publish = publish
        self._is_shared = is_shared

    def _begin(self, message: Message) -> PublishSpan:
        # An event whose key has been used is never placed.
        ends_when_placed = not self._is_shared and message.idempotency is None
        return self._tracing.begin_publish(message, ends_when_placed=ends_when_placed)

    async def publish(self, message: Message) -> None:
        """Publish a message as the sequencer does."""
        span = self._begin(message)
        try:
            await self._publish(message)
        except BaseException as failure:
            span.end(failure)
            raise
        span.end(None)

    # What a state needs of an inbox

    def put_nowait(self, message: Message) -> None:
        """Put a message into the inbox."""
        span = self._begin(message)
        try:
            self._inbox.put_nowait(message)
        except BaseException as failure:
            span.end(failure)
            raise
        span.end(None)

    def check_open(self) -> None:
        self._inbox.check_open()

    def check_thread(self) -> None:
        self._inbox.check_thread()

    def check_room(self) -> None:
        self._inbox.check_room()

    def no_turn(self) -> AbstractContextManager[None]:
        return self._inbox.no_turn()

    def retry(self, put: Callable[[*Ts], None], *arguments: *Ts) -> Coroutine[Any, Any, None]:
        return self._inbox.retry(put, *arguments)


def publishers(
    tracing: Tracing | None, inbox: Inbox, sequencer: Sequencer
) -> tuple[Callable[[Message], Coroutine[Any, Any, None]], Callable[[Message], None], StateInbox]:
    """Return what publishes a message, what does so without waiting, and what states publish to."""
    if tracing is None:
        return sequencer.publish, inbox.put_nowait, inbox
    traced = TracedPublisher(tracing, inbox, sequencer.publish, is_shared=sequencer.is_shared)
    return traced.publish, traced.put_nowait, traced


@final
class TracedPump:
    """Delivers with spans: one for a batch, not one for each subscriber."""

    def __init__(self, tracing: Tracing, pump: Pump) -> None:
        self._tracing = tracing
        self._pump = pump

    async def deliver(self, place: Place) -> None:
        """Deliver as the pump does."""
        traced = _TracedBatch(self._tracing, self._pump, place)
        try:
            await self._pump.deliver(traced.place)
        finally:
            traced.end()

    def deliver_nowait(self, place: Place) -> None:
        """Deliver as the pump does."""
        traced = _TracedBatch(self._tracing, self._pump, place)
        try:
            self._pump.deliver_nowait(traced.place)
        finally:
            traced.end()


@final
class _TracedBatch:
    def __init__(self, tracing: Tracing, pump: Pump, place: Place) -> None:
        self._tracing = tracing
        self._pump = pump
        self._place = place
        self._before = pump.deliveries
        self._span: DeliverySpan | None = None

    def place(self) -> Sequence[Message]:
        messages = self._place()
        self._span = self._tracing.begin_delivery(messages)
        return messages

    def end(self) -> None:
        if self._span is not None:
            self._span.end(self._pump.deliveries - self._before)

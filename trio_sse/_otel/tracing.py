"""`Tracing`: what makes the spans of a hub and of the hosts of its streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from opentelemetry import trace

from .._http.request import Request
from .._hub.tracing import DeliverySpan, PublishSpan, RequestSpan, RunOutside
from .._wire.message import Message
from . import messages as _messages
from . import requests as _requests

_SCHEMA = "https://opentelemetry.io/schemas/1.27.0"


@final
class Tracing:
    """Makes spans of OpenTelemetry; for `Hub(tracing=...)`.

    There is one span for each event that is published, one for each batch that a hub delivers, and one for
    the life of each stream, which is the current span in its handler. What the SDK raises is logged, once a
    minute, and ends nothing. The methods are called by the hub and by servers.

    Args:
        tracer_provider: whose tracer is used; by default the global one, also if it is set later.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("trio_sse", tracer_provider=tracer_provider, schema_url=_SCHEMA)

    def begin_request(
        self,
        request: Request,
        *,
        route: str | None,
        attributes: Mapping[str, str | int],
        run_outside: RunOutside,
    ) -> RequestSpan:
        """Begin the span of a request, which is the current span until it ends."""
        return _requests.begin_request(
            self._tracer, request, route=route, attributes=attributes, run_outside=run_outside
        )

    def begin_publish(self, message: Message, *, ends_when_placed: bool) -> PublishSpan:
        """Begin the span of an event that is being published."""
        return _messages.begin_publish(self._tracer, message, ends_when_placed=ends_when_placed)

    def begin_delivery(self, messages: Sequence[Message]) -> DeliverySpan | None:
        """Begin the span of a batch, if a publish in it was sampled."""
        return _messages.begin_delivery(self._tracer, messages)

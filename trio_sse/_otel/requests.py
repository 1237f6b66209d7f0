"""The span of a request: a stream, an endpoint, a poll or a WebSocket."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from typing import final

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from .._http.request import Headers, Request
from .._hub.tracing import RunOutside
from .guard import guarded

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))

_MOST_CHARACTERS = 1024  # of a path or a host's name

_Attributes = dict[str, str | int]


@final
class _HeaderGetter(Getter[Headers]):
    def get(self, carrier: Headers, key: str) -> list[str] | None:
        return carrier.get_all(key) or None

    def keys(self, carrier: Headers) -> list[str]:
        return [name for name, _ in carrier]


_GETTER = _HeaderGetter()


@final
class RequestSpan:
    """A span that is the current one until it ends."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span, parent: Context) -> None:
        self._span = span
        self._token: Token[Context] = contexts.attach(trace.set_span_in_context(span, parent))

    def end(self, status: int | None, error: str | None, attributes: Mapping[str, str | int]) -> None:
        """End it; see the protocol."""
        with guarded("ending a request's span"):
            contexts.detach(self._token)
        with guarded("ending a request's span"):
            span = self._span
            if span.is_recording():
                span.set_attributes(attributes)
                if status is not None:
                    span.set_attribute("http.response.status_code", status)
                if error is not None or (status is not None and status >= 500):
                    span.set_attribute("error.type", error or str(status))
                    span.set_status(Status(StatusCode.ERROR))
            span.end()


@final
class NoSpan:
    """Stands for the span of a request that could not be begun."""

    def end(self, status: int | None, error: str | None, attributes: Mapping[str, str | int]) -> None:
        """Do nothing."""


def begin_request(
    tracer: Tracer,
    request: Request,
    *,
    route: str | None,
    attributes: Mapping[str, str | int],
    run_outside: RunOutside,
) -> RequestSpan | NoSpan:
    """Begin the span of a request; see the protocol."""
    parent = _parent(request, run_outside)
    with guarded("beginning a request's span"):
        method = request.method if request.method in _METHODS else "_OTHER"
        span = tracer.start_span(
            f"{'HTTP' if method == '_OTHER' else method} {route or ''}".rstrip(),
            context=parent,
            kind=SpanKind.SERVER,
            attributes={**_attributes(request, method, route), **attributes},
        )
        return RequestSpan(span, parent)
    return NoSpan()


def _parent(request: Request, run_outside: RunOutside) -> Context:
    """Return the context in which a request's span begins.

    Its parent is the current span, if middleware around the app has begun one for this request. Otherwise it
    is the client's, as the request's header fields have it. The span in which the server itself was started
    is no parent: it would have all requests for ever.
    """
    current = contexts.get_current()
    with guarded("finding the parent of a request's span"):
        outer: list[Span] = []
        run_outside(lambda: outer.append(trace.get_current_span()))
        span = trace.get_current_span(current)
        if span.get_span_context().is_valid and span is not outer[0]:
            return current
        if span.get_span_context().is_valid:
            current = trace.set_span_in_context(trace.INVALID_SPAN, current)
        return propagate.extract(request.headers, context=current, getter=_GETTER)
    return current


def _attributes(request: Request, method: str, route: str | None) -> _Attributes:
    attributes: _Attributes = {
        "http.request.method": method,
        "url.path": request.target.partition("?")[0][:_MOST_CHARACTERS],
        "network.protocol.version": request.http_version,
        "client.address": request.peer,
    }
    if method == "_OTHER":
        attributes["http.request.method_original"] = request.method[:_MOST_CHARACTERS]
    if route:
        attributes["http.route"] = route
    host, port = _host_and_port(request.headers.get("host") or "")
    if host:
        attributes["server.address"] = host[:_MOST_CHARACTERS]
    if port.isdecimal() and port.isascii():
        attributes["server.port"] = int(port[:5])
    return attributes


def _host_and_port(host: str) -> tuple[str, str]:
    """Split the field `Host`; an IPv6 address is in brackets."""
    host = host.rpartition("@")[2]  # there is never a user's name in it, but it must not be exported
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        return host, ""
    return name, port

"""Options are checked where they are set, whatever is passed, on every kind of host."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

import pytest

from trio_sse import Connection, Hub, Server
from trio_sse.asgi import event_stream
from trio_sse.quart import QuartSSE


async def handler(connection: Connection) -> None: ...


def make_event_stream(**options: Any) -> object:
    return event_stream(options.pop("handler", handler), **options)


def make_server(name: str, value: Any) -> object:
    return Server(**{name: value})


MAKERS: dict[str, tuple[Callable[..., object], Callable[..., object], Collection[str]]] = {
    "Server": (Server, Server, ()),
    "Hub": (Hub, Hub, ()),
    "QuartSSE": (QuartSSE, QuartSSE, ["app"]),  # `init_app` takes it, as in Flask
    "event_stream": (make_event_stream, event_stream, ()),
}
OPTIONS = [
    (kind, name)
    for kind, (_, described, unchecked) in MAKERS.items()
    for name in inspect.signature(described).parameters
    if name not in unchecked
]


@pytest.mark.parametrize(("kind", "name"), OPTIONS)
def test_no_option_takes_any_object(kind: str, name: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        MAKERS[kind][0](**{name: object()})


@pytest.mark.parametrize("name", ["health_path", "liveness_path", "readiness_path", "metrics_path"])
def test_a_path_must_begin_with_a_slash(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must begin with a slash: 'health'"):
        make_server(name, "health")


@pytest.mark.parametrize(
    "name", ["access_log", "console", "cors_credentials", "http2", "http2_cleartext", "log_identities"]
)
def test_a_flag_is_no_text(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be True or False, not str"):
        make_server(name, "false")


def test_methods_are_not_one_text() -> None:
    with pytest.raises(TypeError, match="methods must be a collection"):
        event_stream(handler, methods="GET")

"""Handlers that read `connection.request.body` on every host.

In an app of Quart, the body is the app's to read, so `connection.request` has none. For a handler with this
mark, it is read first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

H = TypeVar("H", bound=Callable[..., Any])

_MARK = "trio_sse_needs_body"


def needs_body(handler: H) -> H:
    """Decorate a handler that reads the request's body."""
    vars(handler)[_MARK] = True
    return handler


def is_in_need_of_body(handler: object) -> bool:
    """Return whether a handler was decorated so."""
    return bool(getattr(handler, _MARK, False))

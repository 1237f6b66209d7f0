"""ASGI's types, as far as this project needs them.

Frameworks type the same three arguments each in its own way, and none of these types takes the others'. So
what is handed to an app, or comes from one, has no more of a type than this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: What a user gives: an app of any framework.
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

#: Where a scope's `extensions` have what runs event streams for the app (see `_stage.py`).
STREAMS = "trio_sse.streams"

"""Start an app on hypercorn, with its own `serve` or ours, on a free port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import trio
from hypercorn.config import Config
from quart_trio import QuartTrio


async def start(serve: Callable[..., Awaitable[None]], app: QuartTrio, nursery: trio.Nursery) -> int:
    """Start `serve` in the nursery and return the app's port."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.loglevel = "WARNING"
    # With the default of 100, each wave of the load's connections would need a second attempt.
    config.backlog = 1024
    urls: list[str] = await nursery.start(serve, app, config)
    port = urlsplit(urls[0]).port
    assert port is not None
    return port

"""A server whose workers die at their start."""

from __future__ import annotations

import os

from trio_sse import Server

server = Server()


async def die(*arguments: object, **options: object) -> None:
    """Die when it is to serve, in whichever process."""
    os._exit(3)


server.serve_listeners = die  # type: ignore[method-assign]  # of the test's own

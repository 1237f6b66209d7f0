"""Metrics and health checks on an address of their own, beside a server that the program runs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .._server.server import Server
from .listening import Listening, ListenOptions, listening_on


@contextmanager
def listening_for_monitor(
    options: ListenOptions | None, announce: Callable[[list[str]], None]
) -> Iterator[Listening]:
    """Listen, until the block ends, on one socket for each address, if there are any; workers share them.

    Raises:
        ProgramError: an address is not available.
    """
    if options is None:
        yield Listening()
        return
    with listening_on(options) as listening:
        announce(listening.describe("http"))
        yield listening


def monitor_of(server: Server) -> Server:
    """Return what answers with the metrics and health checks of a server."""
    from .._server.monitoring import monitoring_server  # needs the extra

    return monitoring_server(server)


async def serve_monitor(server: Server, sockets: Sequence[socket.socket]) -> None:
    """Serve the metrics and health checks of a server on these sockets until cancelled."""
    await monitor_of(server).serve_listeners(list(sockets))

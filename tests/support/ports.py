"""Ports for servers that are started again on the same port, or cannot say which one they got."""

from __future__ import annotations

import os
import socket
from itertools import count

# Below the ports that systems pick themselves, for a client's end or for port 0: none of these is taken
# between the moment it is found free and the moment a server listens on it, and no client that tries to
# reach a stopped server connects to itself.
_FIRST, _LAST = 10_000, 32_000
_candidates = count(os.getpid() * 97)  # processes of one test run begin in different places


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, and that the system gives to nobody."""
    while True:
        port = _FIRST + next(_candidates) % (_LAST - _FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port

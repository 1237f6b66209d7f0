"""A client's handshake that takes as long as a test wants."""

from __future__ import annotations

import array
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # Linux


@contextmanager
def connecting(address: tuple[str, int]) -> Iterator[socket.socket]:
    """Yield a socket whose handshake has begun, and goes on, within a second or two, after the block."""
    drop = array.array("B", struct.pack("HBBI", 0x06, 0, 0, 0))  # whatever is received
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, drop.buffer_info()[0]))
    client.connect_ex(address)
    yield client
    client.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

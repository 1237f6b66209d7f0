"""The order in which subscribers are written to.

Streams that share a connection, as those of HTTP/2 do, come one after the other, so that one write carries
what all of them receive. Otherwise the order is that in which they came.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Protocol, TypeVar


class OnConnection(Protocol):
    """What may share a connection with others of its kind.

    Attributes:
        connection_number: that of the connection that they share; 0 for one that is not shared.
    """

    connection_number: int


S = TypeVar("S", bound=OnConnection)

_by_connection = attrgetter("connection_number")


def in_write_order(subscribers: Iterable[S]) -> list[S]:
    """Return subscribers so that those that share a connection come one after the other."""
    listed = list(subscribers)
    if any(map(_by_connection, listed)):
        listed.sort(key=_by_connection)
    return listed

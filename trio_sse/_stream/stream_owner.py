"""Listing and ending streams, as the public objects offer it that streams belong to."""

from __future__ import annotations

from collections.abc import Sequence

from .._pausing import in_one_piece, in_pieces
from .listing import ConnectionInfo, ListedStream, StreamFilter, close_streams, list_connections


class StreamOwner:
    """What streams belong to: the part that a `Server`, a `QuartSSE` and an `EventStream` have alike."""

    def _candidates(self, meant: StreamFilter) -> Sequence[ListedStream]:
        """Return streams among which are all that are meant."""
        raise NotImplementedError

    def connections(
        self,
        *,
        id: int | None = None,
        identity: str | None = None,
        route: str | None = None,
        topic: str | None = None,
        limit: int | None = None,
    ) -> list[ConnectionInfo]:
        """Return its open streams, oldest first, among them polls that wait and WebSockets.

        It may visit every stream; with thousands of them, use `collect_connections`.

        Args:
            id, identity, route, topic: return only streams that have this one, as in `ConnectionInfo`.
            limit: return at most so many.
        """
        meant = StreamFilter(id=id, identity=identity, route=route, topic=topic)
        return in_one_piece(list_connections(self._candidates(meant), meant, limit))

    async def collect_connections(
        self,
        *,
        id: int | None = None,
        identity: str | None = None,
        route: str | None = None,
        topic: str | None = None,
        limit: int | None = None,
    ) -> list[ConnectionInfo]:
        """Return the same, but let other tasks run between two parts of the streams."""
        meant = StreamFilter(id=id, identity=identity, route=route, topic=topic)
        return await in_pieces(list_connections(self._candidates(meant), meant, limit))

    def close_connections(
        self,
        *,
        id: int | None = None,
        identity: str | None = None,
        route: str | None = None,
        topic: str | None = None,
        reconnect: bool = True,
    ) -> int:
        """End the open streams of this process that match all of these; return how many those are.

        To end those of other nodes and workers, too, use `Hub.revoke`.

        Args:
            reconnect: truncate the responses (`REVOKED`), so that every client reconnects and is checked
                again. Otherwise they are completed (`FINISHED`), as by `Connection.close`: clients built on
                `fetch` take that as the end, but `EventSource` reconnects all the same, until the server
                refuses that.

        Raises:
            TypeError: nothing was said about which ones.
        """
        meant = StreamFilter(id=id, identity=identity, route=route, topic=topic)
        return close_streams(self._candidates(meant), meant, reconnect=reconnect)

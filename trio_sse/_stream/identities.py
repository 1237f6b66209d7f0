"""Which open streams belong to an identity, so that ending one user's streams does not visit all."""

from __future__ import annotations

from typing import Generic, TypeVar, final

Stream = TypeVar("Stream")


@final
class IdentityIndex(Generic[Stream]):
    """The open streams that have an identity."""

    def __init__(self) -> None:
        self._streams: dict[str, dict[Stream, None]] = {}

    def __len__(self) -> int:
        """Return how many identities have streams."""
        return len(self._streams)

    def add(self, identity: str, stream: Stream) -> None:
        """Add a stream to an identity."""
        self._streams.setdefault(identity, {})[stream] = None

    def discard(self, identity: str, stream: Stream) -> None:
        """Remove a stream, if the identity has it."""
        streams = self._streams.get(identity)
        if streams is not None:
            streams.pop(stream, None)
            if not streams:
                del self._streams[identity]

    def all_streams(self) -> list[Stream]:
        """Return all streams that have an identity."""
        return [stream for streams in self._streams.values() for stream in streams]

    def streams_of(self, identity: str) -> list[Stream]:
        """Return the streams of an identity, in the order in which they got it."""
        return list(self._streams.get(identity, ()))

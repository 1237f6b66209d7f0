"""Why a peer is lost where that is our doing. Otherwise, the error is a `trio.BrokenResourceError` itself."""

from __future__ import annotations

from typing import final

import trio

#: What is said to a client whose response has no room.
TOO_MUCH_PENDING = "too many bytes wait for other clients"


class PeerGivenUp(trio.BrokenResourceError):
    """The peer is still there, but its connection is closed or will be."""


@final
class WriteTimedOut(PeerGivenUp):
    """It has accepted nothing for the write timeout."""


@final
class PendingCut(PeerGivenUp):
    """Too many bytes wait for slow peers, and this one is too slow."""

    def __init__(self) -> None:
        super().__init__("too many bytes wait for peers that read slowly")

"""The order in which open responses end when a server drains."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Protocol

import trio

from .end_reason import EndReason

# Draining ends this many streams a second, or more if the drain time requires it, in groups of 10: few enough
# to spread the reconnects, many enough that a small server drains immediately.
_ENDS_PER_SECOND = 1000
_ENDS_SHARE = 0.8
_ENDS_AT_ONCE = 10

#: What has begun when the server drains may go on for this long: a request that arrives, and reading what a
#: client still sends after its response.
DRAIN_GRACE_SECONDS = 1.0

# What an app still sends piece by piece may end by itself for this part of the drain time. Then the app
# learns that the server drains, and has the rest of the time to clean up.
_APP_SHARE = 0.8


class OpenResponse(Protocol):
    """What a drain needs of a stream, or of an app's response."""

    def end(self, reason: EndReason) -> None:
        """End the stream for this reason, unless it has ended already."""

    @property
    def is_resumable(self) -> bool:
        """Whether its client reconnects, and loses nothing, when it is cut."""


async def end_streams(streams: Sequence[OpenResponse], *, drain_timeout: float) -> None:
    """End those of the streams that are resumable, spread over a part of the drain time."""
    streams = [stream for stream in streams if stream.is_resumable]
    if not streams:
        return
    seconds = min(len(streams) / _ENDS_PER_SECOND, drain_timeout * _ENDS_SHARE)
    for number, stream in enumerate(streams, start=1):
        stream.end(EndReason.SERVER_SHUTDOWN)
        if number % _ENDS_AT_ONCE == 0:
            await trio.sleep(seconds / len(streams) * _ENDS_AT_ONCE)


async def end_app_responses(
    responses: Callable[[], Iterable[OpenResponse]], known: Container[OpenResponse], *, drain_timeout: float
) -> None:
    """End the event streams of apps that have begun meanwhile, and later what else apps still send.

    Args:
        responses: returns those of apps that are being sent.
        known: those that had begun before.
    """
    grace = min(DRAIN_GRACE_SECONDS, drain_timeout * _APP_SHARE)
    await trio.sleep(grace)
    for response in list(responses()):
        if response.is_resumable and response not in known:
            response.end(EndReason.SERVER_SHUTDOWN)
    await trio.sleep(drain_timeout * _APP_SHARE - grace)
    for response in list(responses()):
        response.end(EndReason.SERVER_SHUTDOWN)

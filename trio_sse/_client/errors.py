"""Why a stream cannot be followed."""

from __future__ import annotations

from typing import final


@final
class StreamRefused(Exception):
    """The server has refused the stream in a way that another attempt would not change.

    Attributes:
        status: the response's status; 200 if the response was not an event stream.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@final
class StreamUnavailable(Exception):
    """An attempt has failed, and the client was asked not to reconnect."""

"""Results that several modules of the server return."""

from __future__ import annotations

import enum


class AfterResponse(enum.Enum):
    """What becomes of a transport after a request was answered."""

    REUSE = enum.auto()
    """It may carry another request."""
    CLOSE = enum.auto()
    """It must be closed, unless it has another owner by now."""

    @staticmethod
    def reuse_if(may_reuse: bool) -> AfterResponse:
        """Return `REUSE` or `CLOSE`."""
        return AfterResponse.REUSE if may_reuse else AfterResponse.CLOSE

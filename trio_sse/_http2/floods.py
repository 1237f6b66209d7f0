"""Floods: frames that are cheap to send, cost us work, and ask for nothing.

Two token buckets for each connection. One is for requests that the client resets before they are answered
(rapid reset, CVE-2023-44487), or that fail by its faults: each may have started a task. The other is for all
frames without use: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown types (CVE-2019-9511 to
9518), and whatever comes on streams that we have reset. Useful work earns such frames, since clients that
receive much send many WINDOW_UPDATEs.
"""

from __future__ import annotations

from typing import final

from .error_code import ConnectionFault, ErrorCode
from .frames import Flag, Frame, FrameType
from .limits import Http2Limits

_FIELDS_PER_TOKEN = 4

# Frames that ask for nothing, as a rule.
_USELESS = (FrameType.PING, FrameType.SETTINGS, FrameType.PRIORITY, FrameType.WINDOW_UPDATE, FrameType.GOAWAY)


def is_useless(frame: Frame) -> bool:
    """Return whether a frame of a known type asks for nothing; padding does not count."""
    if frame.type in _USELESS:
        return True
    if frame.flags & Flag.END_STREAM:
        return False
    payload = frame.payload
    if not payload:
        return True
    return frame.type == FrameType.DATA and bool(frame.flags & Flag.PADDED) and payload[0] == len(payload) - 1


@final
class FloodGuard:
    """Counts the frames of one connection that are without use.

    Args:
        limits: how many of them are acceptable.
        now: the time, in seconds of any clock.
    """

    __slots__ = ("_control", "_earned", "_resets")

    def __init__(self, limits: Http2Limits, now: float) -> None:
        self._control = _Bucket(limits.control_frames, limits.control_rate, now)
        self._resets = _Bucket(limits.resets, limits.reset_rate, now)
        self._earned = 0.0

    def spend(self, now: float, earned: float, tokens: float = 1.0) -> None:
        """Count a frame without use.

        Args:
            now: the time.
            earned: how many of them useful work has earned since the connection began.
            tokens: how many this one counts as.

        Raises:
            ConnectionFault: ENHANCE_YOUR_CALM, there were too many.
        """
        self._control.add(earned - self._earned)
        self._earned = earned
        if not self._control.take(now, tokens):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def spend_ignored(self, now: float, earned: float, fields: int) -> None:
        """Count a frame on a stream that we have reset, with the fields that had to be decoded.

        Raises:
            ConnectionFault: ENHANCE_YOUR_CALM, there were too many.
        """
        self.spend(now, earned, 1 + fields / _FIELDS_PER_TOKEN)

    def spend_refusal(self, now: float, earned: float, fields: int) -> None:
        """Count a request that was refused by its head. Each of its fields takes some microseconds to decode.

        Raises:
            ConnectionFault: ENHANCE_YOUR_CALM, there were too many.
        """
        self.spend(now, earned, fields / _FIELDS_PER_TOKEN)
        self.spend_reset(now)

    def spend_reset(self, now: float) -> None:
        """Count a request that the client has reset before it was answered, or that failed by its fault.

        Raises:
            ConnectionFault: ENHANCE_YOUR_CALM, there were too many.
        """
        if not self._resets.take(now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many requests were reset, or failed")


@final
class _Bucket:
    """Holds up to `size` tokens, and gains `rate` of them each second."""

    __slots__ = ("_rate", "_seen_at", "_size", "_tokens")

    def __init__(self, size: int, rate: float, now: float) -> None:
        self._size = self._tokens = float(size)
        self._rate = rate
        self._seen_at = now

    def add(self, tokens: float) -> None:
        self._tokens = min(self._size, self._tokens + tokens)

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Take tokens; return whether there were as many."""
        self.add((now - self._seen_at) * self._rate)
        self._seen_at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

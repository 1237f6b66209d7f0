"""Floods: frames that are cheap to send, cost us work, and ask for nothing.

Two token buckets for each connection. One is for streams that the client resets (rapid reset,
CVE-2023-44487), or that end by its faults: each may have started a request. The other is for all frames
without use: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown types (CVE-2019-9511 to 9518).
Useful work earns such frames, since clients that receive much send many WINDOW_UPDATEs.
"""

from __future__ import annotations

from typing import final

from .error_code import ConnectionFault, ErrorCode
from .frames import Flag, Frame, FrameType
from .limits import Http2Limits

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

    __slots__ = ("_control", "_limits", "_resets", "_work")

    def __init__(self, limits: Http2Limits, now: float) -> None:
        self._limits = limits
        self._control = _Bucket(limits.control_frames, limits.control_rate, now)
        self._resets = _Bucket(limits.resets, limits.reset_rate, now)
        self._work = 0

    def spend(self, now: float, work: int | None = None) -> None:
        """Count a frame without use.

        Args:
            now: the time.
            work: how many requests and DATA frames there have been since the connection began, if that has
                changed. So nothing has to be counted here where frames are sent.

        Raises:
            ConnectionFault: ENHANCE_YOUR_CALM, there were too many.
        """
        if work is not None:
            self._control.add((work - self._work) * self._limits.frames_per_work)
            self._work = work
        if not self._control.take(now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def spend_reset(self, now: float) -> None:
        """Count a stream that the client has reset, or that has ended by its fault.

        Raises:
            ConnectionFault: ENHANCE_YOUR_CALM, there were too many.
        """
        if not self._resets.take(now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams were reset")


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

    def take(self, now: float) -> bool:
        """Take a token; return whether there was one."""
        self.add((now - self._seen_at) * self._rate)
        self._seen_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

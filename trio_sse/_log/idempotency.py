"""Idempotency keys: what was published with the same key to the same topic is stored once.

A key is remembered for a limited time, and only the newest keys are. Logs store digests, which have one size.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import final

import trio

#: How long a key is remembered, and how many are: by the log in memory, and by default by shared ones.
KEY_SECONDS = 86_400.0
MOST_KEYS = 10_000
MOST_SHARED_KEYS = 100_000


def check_key_age(seconds: float) -> None:
    """Raise `TypeError` or `ValueError` unless keys can be remembered for this time."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"key_age must be a number of seconds, not {type(seconds).__name__}")
    if not 0 < seconds <= 366 * 86_400:
        raise ValueError(f"key_age must be greater than 0 and at most a year, not {seconds}")


def key_digest(topic: str, key: str) -> bytes:
    """Return the digest of a key for a topic."""
    return blake2b(f"{topic}\n{key}".encode(), digest_size=16).digest()


@final
class RecentKeys:
    """The digests of the newest keys, in memory."""

    def __init__(self) -> None:
        self._times: dict[bytes, float] = {}  # the oldest first

    def add(self, digest: bytes) -> bool:
        """Remember a key; return whether it is new."""
        now = trio.current_time()
        while self._times:
            oldest = next(iter(self._times))
            if self._times[oldest] > now - KEY_SECONDS and len(self._times) <= MOST_KEYS:
                break
            del self._times[oldest]
        if digest in self._times:
            return False
        self._times[digest] = now
        return True

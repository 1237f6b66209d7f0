"""What the stores of runs have alike: how a key is known, and for how long things count."""

from __future__ import annotations

import hashlib

#: For how long a run is noted as shown: viewers ask again long before.
WATCHED_SECONDS = 6.0

#: Longer times are cut to this, which any clock can add.
LONGEST_SECONDS = 10 * 365 * 86_400.0


def key_digest(owner: str | None, key: str) -> bytes:
    """Return what a run with a key is found by; the same key of two owners is not the same."""
    text = f"{key}\0" if owner is None else f"{key}\0={owner}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

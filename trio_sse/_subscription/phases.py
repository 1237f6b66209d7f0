"""The phases of a feed.

| phase      | what it does                                | what ends the phase                     |
|------------|---------------------------------------------|-----------------------------------------|
| new        | nothing: it is not registered               | `enter`                                 |
| ahead      | waits until a shared log has reached its id | `start`, at the id, or at the log's end |
| replaying  | reads the log; see `log_reading.py`         | a read that finds nothing more          |
| live       | receives what is published to its topics    | the hub's end, an overflow, `leave`     |
| ended      | still has what is queued, and no more       | `leave`                                 |
| overflowed | nothing                                     | `leave`                                 |
| left       | nothing                                     |                                         |

A feed is ahead if its client comes from another hub that reads the shared log faster.

It goes live in the same step in which a read of the log finds nothing more, so nothing is missing or repeated
between history and what follows.
"""

from __future__ import annotations

from enum import Enum
from typing import final


@final
class Phase(Enum):
    """A phase; its value is what a feed's `repr` says."""

    NEW = "not entered"
    AHEAD = "ahead of the log"
    REPLAYING = "replaying"
    LIVE = "live"
    ENDED = "ended with its hub"
    OVERFLOWED = "overflowed"
    LEFT = "left"


# Looking up a member of an enumeration takes longer than a global.
NEW, AHEAD, REPLAYING, LIVE, ENDED, OVERFLOWED, LEFT = Phase

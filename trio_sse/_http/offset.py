"""Reading `?offset=` of a request: how many seconds into the shared time a page or a stream starts."""

from __future__ import annotations

import math
import re
from urllib.parse import parse_qsl

from .exceptions import HTTPException
from .request import Request

# What JavaScript and Python write for a number of seconds. `float` also accepts "nan", "1_0" and "+1".
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)


def seconds_of(text: str) -> float:
    """Return a number of seconds in a query; `nan` if it is none."""
    return float(text) if _SECONDS.fullmatch(text) else math.nan


def read_offset(request: Request, *, most: float = 86_400.0) -> float:
    """Return the seconds of a request's `?offset=`; 0.0 if it has none.

    Args:
        most: the largest offset that is allowed; a finite number of seconds.

    Raises:
        HTTPException: 400, if the offset is not a number from 0 to `most`, or is repeated.
        TypeError, ValueError: `most` is not a finite number of seconds.
    """
    if isinstance(most, bool) or not isinstance(most, int | float):
        raise TypeError(f"most must be a number of seconds, not {type(most).__name__}")
    if not (math.isfinite(most) and most >= 0):
        raise ValueError(f"most must be 0 or more seconds, and finite, not {most}")
    fields = parse_qsl(request.query_string, keep_blank_values=True) if request.query_string else []
    values = [value for name, value in fields if name == "offset"]
    if not values:
        return 0.0
    if len(values) > 1:
        raise HTTPException(400, "offset must not be repeated")
    seconds = seconds_of(values[0])
    if not 0 <= seconds <= most:
        raise HTTPException(400, f"offset must be a number of seconds from 0 to {most:.15g}")
    return seconds

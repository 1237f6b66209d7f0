"""The offset in the page: how far into the shared time a page, or a stream, is to begin."""

from __future__ import annotations

import math
import re
from urllib.parse import parse_qsl

from .exceptions import HTTPException
from .request import Request

# As JavaScript and Python write a number of seconds; float() would take "nan", "1_0" and "+1", too.
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)


def read_offset(request: Request, *, most: float = 86_400.0) -> float:
    """Give the seconds of a request's `?offset=`, or 0.0 if it has none.

    Args:
        most: the largest offset that makes sense; a finite number of seconds.

    Raises:
        HTTPException: 400, and says what would be right: it is no number from 0 to `most`, or is given twice.
        TypeError, ValueError: `most` is not acceptable.
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
        raise HTTPException(400, "offset may be given only once")
    seconds = float(values[0]) if _SECONDS.fullmatch(values[0]) else math.nan
    if not 0 <= seconds <= most:
        raise HTTPException(400, f"offset must be a number of seconds from 0 to {most:.15g}")
    return seconds

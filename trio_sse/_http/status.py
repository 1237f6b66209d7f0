"""The reason phrases of statuses."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

# RFC 9110, 15. Python before 3.13 has those of older RFCs.
_PHRASES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


@lru_cache(maxsize=128)
def reason_phrase(status: int) -> str:
    """Return the reason phrase of a status.

    Raises:
        ValueError: the status is unknown.
    """
    return _PHRASES.get(status) or HTTPStatus(status).phrase

"""Which clients receive cursors in which form.

A block without data sets an `EventSource`'s last event id, and dispatches nothing. Two widely used clients
emit an empty message for it: httpx-sse, and @microsoft/fetch-event-source in a browser. Both take an id at
its own line, so they get the line without the blank one.

An `EventSource` sends `Cache-Control: no-cache` (WHATWG HTML, 9.2.2); a browser's `fetch` sends no such
field by default, but `Sec-Fetch-Mode`; httpx-sse sends `Cache-Control: no-store`.
"""

from __future__ import annotations

from .._http.request import Request
from .._wire.cursor import CursorForm

#: The parameter of a query with which a page's own code asks for cursors as events.
_EVENT_PARAMETER = "cursor_events"

# Looking up a member of an enumeration takes longer than a global.
_, _BLOCK, _LINE, _EVENT = CursorForm


def cursor_form(request: Request) -> CursorForm:
    """Return the form in which the client of a request receives cursors."""
    if _EVENT_PARAMETER in request.target and request.query.get(_EVENT_PARAMETER) == "1":
        return _EVENT
    headers = request.headers
    caching = headers.get("cache-control")
    if caching is not None:
        if "no-cache" in caching.lower():
            return _BLOCK
        if "no-store" in caching.lower():
            return _LINE
    return _LINE if "sec-fetch-mode" in headers else _BLOCK

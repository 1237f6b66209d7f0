"""The form in which a client receives cursors; `CursorForm` has the reasons."""

from __future__ import annotations

from .._http.event_source import takes_blocks
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
    return _BLOCK if takes_blocks(request.headers) else _LINE

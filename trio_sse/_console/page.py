"""The page's files, and the header fields that bind what a browser may do with them."""

from __future__ import annotations

import mimetypes
from functools import cache
from importlib.resources import files

from .._http.response import Response

#: No inline script or style, nothing from another host, no frames, and no HTML from text.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)

#: The fields of every response of the console.
SECURITY_FIELDS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@cache
def page_files() -> dict[str, Response]:
    """Return the responses with the page's files, by their names; the page itself has an empty one."""
    static = files("trio_sse") / "static"
    found = {}
    for file in (*(static / "console").iterdir(), *(static / "common").iterdir()):
        name = "" if file.name == "index.html" else file.name
        content_type = mimetypes.guess_type(file.name)[0] or "text/plain"
        if content_type.startswith("text/"):
            content_type += "; charset=utf-8"
        found[name] = Response(
            file.read_bytes(),
            content_type=content_type,
            headers={**SECURITY_FIELDS, "Cache-Control": "no-cache"},
        )
    return found

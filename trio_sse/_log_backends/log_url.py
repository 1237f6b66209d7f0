"""Errors about a log's URL, which may contain a password.

The invariant: no text that this project makes about a URL quotes a part of it, since in a URL with a typing
error any part may belong to the password. Texts of others, such as a server's reply, pass through `redact`.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from urllib.parse import unquote

REDIS_FORMS = "redis://[user:password@]host[:port][/database], rediss://... or unix:///path[?db=database]"

_SCHEMES = ("redis", "rediss", "unix", "sqlite")
_SCHEME = re.compile("[a-z0-9+.-]{1,32}(?=:)", re.IGNORECASE)
_USER = re.compile(r"^[^/]*//(?P<user>[^:@]*)(?P<rest>:.*)?@", re.DOTALL)

# Redis 6 and older quote the arguments of a command that they do not know, a password's among them.
_QUOTED_ARGUMENTS = re.compile(r",? with args beginning with.*", re.DOTALL)


def log_url_error(url: str, problem: str) -> ValueError:
    """Return the error for a log's URL: what is wrong and what was probably meant, without a quotation."""
    found = _SCHEME.match(url.strip())
    scheme = found[0].lower() if found else ""
    close = [] if scheme in _SCHEMES else get_close_matches(scheme, _SCHEMES, n=1)
    hint = f" (did you mean {close[0]}:?)" if close else ""
    return ValueError(f"{problem}{hint}")


def redact(text: str, url: str) -> str:
    """Return a text of somebody else's, such as a server's reply, without what is secret in a log's URL."""
    text = _QUOTED_ARGUMENTS.sub("", text)
    found = _USER.match(url)
    if found is None:
        return text
    password = (found["rest"] or "").removeprefix(":") or found["user"]  # alone, a user's name may be a token
    for secret in sorted({password, unquote(password)}, key=len, reverse=True):
        if secret:
            text = text.replace(secret, "***")
    return text

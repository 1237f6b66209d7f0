"""URLs without their credentials, for what the tools print."""

from __future__ import annotations

import re

# Up to the last @ before the path. A password with a slash in it makes the URL malformed: it is not printed.
_CREDENTIALS = re.compile(r"//[^/?#]*@")


def without_credentials(url: str) -> str:
    """Return a well-formed URL without its user name and password."""
    return _CREDENTIALS.sub("//", url, count=1)

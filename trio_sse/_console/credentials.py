"""The console's token, and the cookie and the CSRF token that are derived from it.

They are derived, and not kept: every worker knows them, a restart with the same token keeps them valid, and
there is nothing to fill up. A cookie does not reveal the token.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import final

#: For how many seconds a login lasts.
SESSION_SECONDS = 12 * 3600


def make_token() -> str:
    """Return a new token, of 192 random bits."""
    return secrets.token_urlsafe(24)


def session_expires_at(cookie: str) -> int:
    """Return until when a login is valid, whose cookie has been checked, in seconds since 1970."""
    return int(cookie.partition(".")[0])


@final
class Credentials:
    """Checks and makes credentials. Everything is compared in constant time.

    Attributes:
        cookie_name: differs between servers, as cookies of one host are sent to all its ports.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._key = token.encode()
        self._clock = clock
        self.cookie_name = f"trio_sse_console_{self.sign('name')[:8]}"

    def is_token(self, text: str) -> bool:
        """Whether a text is the token."""
        given, own = (hashlib.sha256(each).digest() for each in (text.encode("utf-8", "replace"), self._key))
        return hmac.compare_digest(given, own)

    def new_session(self) -> str:
        """Return the value of the cookie of a new login."""
        text = f"{int(self._clock()) + SESSION_SECONDS}.{secrets.token_hex(8)}"
        return f"{text}.{self.sign(f'session {text}')}"

    def is_session(self, cookie: str) -> bool:
        """Whether a cookie is that of a login which has not expired."""
        text, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self.sign(f"session {text}").encode()):
            return False
        return self._clock() < session_expires_at(cookie)

    def csrf_token(self, session: str) -> str:
        """Return what the page sends along with each action of a session."""
        return self.sign(f"csrf {session}")

    def is_csrf_token(self, session: str, text: str) -> bool:
        """Whether a text is the CSRF token of a session."""
        return hmac.compare_digest(text.encode("utf-8", "replace"), self.csrf_token(session).encode())

    def sign(self, text: str) -> str:
        """Return the signature of a text, which only those who have the token can make."""
        return hmac.digest(self._key, text.encode(), "sha256").hex()

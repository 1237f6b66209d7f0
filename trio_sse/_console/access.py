"""Who may use the console: each request passes here first.

1. The peer must be allowed; see `peers`.
2. Of what browsers send, only requests of the console's own pages count, also for reading. A page of another
   origin, or of another port of the same host, is refused, whatever cookies the browser adds.
3. Data needs the token, as `Authorization: Bearer`, or the cookie of a login.
4. An action with a cookie also needs the CSRF token, which only a page that may read the console knows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, final

from .._http.exceptions import HTTPException
from .._http.request import Request
from .._http.response import Response, json_response
from .._http.websocket_handshake import Handshake
from .._logger import get_logger
from .credentials import SESSION_SECONDS, Credentials, session_expires_at
from .peers import AllowedPeers

logger = get_logger("trio_sse.console")

#: The field in which the page sends its CSRF token.
CSRF_FIELD = "x-csrf-token"

_LARGEST_LOGIN = 4096

_OWN_PAGE_ONLY = "only the console's own page may use the console"

_own_pages_only = Handshake(origins=(), subprotocols=())


@final
@dataclass(frozen=True, slots=True)
class Viewer:
    """Who uses the console.

    Attributes:
        peer: the client's address.
        session: its cookie; `None` if it has sent the token itself.
    """

    peer: str
    session: str | None

    @property
    def expires_at(self) -> float | None:
        """Until when the login is valid, in seconds since 1970; a token is valid without end."""
        return None if self.session is None else session_expires_at(self.session)

    @property
    def name(self) -> str:
        """What is logged of the session."""
        return "token" if self.session is None else self.session.split(".")[1]


@final
class Access:
    """Checks requests, and logs clients in.

    Attributes:
        credentials: makes and checks the credentials.
    """

    def __init__(self, credentials: Credentials, peers: AllowedPeers) -> None:
        self.credentials = credentials
        self._peers = peers

    def check_client(self, request: Request) -> None:
        """Check who asks, for what anybody may see who may use the console.

        Raises:
            HTTPException: 403 if the peer may not, or a page of another origin asks.
        """
        if not self._peers.allow(request):
            logger.info_often("refused peer=%s: the console answers this machine only", request.peer)
            raise HTTPException(403, "the console answers this machine only; see console_peers")
        site = request.headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none"):
            raise HTTPException(403, _OWN_PAGE_ONLY)
        try:
            _own_pages_only.check_origin(request.headers)
        except HTTPException:
            raise HTTPException(403, _OWN_PAGE_ONLY) from None

    def check(self, request: Request) -> Viewer:
        """Return who asks for data.

        Raises:
            HTTPException: as `check_client`, or 401 without credentials.
        """
        self.check_client(request)
        viewer = self._viewer(request)
        if viewer is None:
            raise HTTPException(401, "log in first", {"WWW-Authenticate": "Bearer"})
        return viewer

    def check_action(self, request: Request) -> tuple[Viewer, dict[str, Any]]:
        """Return who wants something to be done, and the request's JSON object.

        Raises:
            HTTPException: as `check`; 403 without the CSRF token; 415 or 400 if the body is not acceptable.
        """
        viewer = self.check(request)
        if viewer.session is not None:
            token = request.headers.get(CSRF_FIELD, "") or ""
            if not self.credentials.is_csrf_token(viewer.session, token):
                raise HTTPException(403, "the CSRF token is missing or wrong")
        return viewer, _json_object(request)

    def _viewer(self, request: Request) -> Viewer | None:
        scheme, _, token = (request.headers.get("authorization") or "").partition(" ")
        if scheme.lower() == "bearer":
            if self.credentials.is_token(token.strip()):
                return Viewer(request.peer, None)
            logger.info_often("refused peer=%s: wrong token", request.peer)
            return None
        for field in request.headers.get_all("cookie"):
            for pair in field.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self.credentials.cookie_name and self.credentials.is_session(value):
                    return Viewer(request.peer, value)
        return None

    # Logging in and out

    async def log_in(self, request: Request) -> Response:
        """Answer a login form: set the cookie if it has the token."""
        self.check_client(request)
        if len(request.body) > _LARGEST_LOGIN:
            raise HTTPException(413)
        token = _json_object(request).get("token")
        if not isinstance(token, str) or not self.credentials.is_token(token):
            logger.info_often("refused peer=%s: wrong token", request.peer)
            raise HTTPException(401, "the token is wrong")
        session = self.credentials.new_session()
        viewer = Viewer(request.peer, session)
        logger.info("login peer=%s session=%s", viewer.peer, viewer.name)
        return self._session_response(request, session, {"Set-Cookie": self._cookie(request, session)})

    async def log_out(self, request: Request) -> Response:
        """Answer a logout: remove the cookie."""
        self.check_action(request)
        return Response(status=204, headers={"Set-Cookie": self._cookie(request, "", lasts=0)})

    async def session(self, request: Request) -> Response:
        """Answer whether the client is logged in, and with what its actions are protected."""
        viewer = self.check(request)
        return self._session_response(request, viewer.session, {})

    def _session_response(self, request: Request, session: str | None, headers: dict[str, str]) -> Response:
        csrf = "" if session is None else self.credentials.csrf_token(session)
        answer = json_response({"csrf": csrf})
        return Response(
            answer.body, content_type=answer.content_type, headers={"Cache-Control": "no-store", **headers}
        )

    def _cookie(self, request: Request, value: str, lasts: int = SESSION_SECONDS) -> str:
        # Without a path, the browser takes the folder that it has asked for, whatever a proxy has removed.
        is_secure = (request.headers.get("origin") or "").startswith("https:")
        secure = "; Secure" if is_secure else ""
        name = self.credentials.cookie_name
        return f"{name}={value}; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}"


def _json_object(request: Request) -> dict[str, Any]:
    kind = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a form of another site cannot send it
        raise HTTPException(415, "the body must be application/json")
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return value

"""Cross-origin requests: who may read the streams from pages of other origins (WHATWG Fetch, 3.2)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import final

_PREFLIGHT_SECONDS = 7200

# The form in which browsers send origins (RFC 6454, 6.2): any other would never match.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_DEFAULT_PORTS = (("http", ":80"), ("https", ":443"))


def check_origins(option: str, origins: Collection[str]) -> None:
    """Check that each origin is `*` or has the form in which browsers send it.

    Args:
        option: the option's name, for the error.

    Raises:
        TypeError: the origins are one `str`.
        ValueError: an origin would never match.
    """
    if isinstance(origins, str):
        raise TypeError(f"{option} must be a collection of origins, not one str")
    for origin in origins:
        match = _ORIGIN.fullmatch(origin)
        if origin != "*" and (match is None or match.groups() in _DEFAULT_PORTS):
            raise ValueError(
                "an origin must be like https://example.org, in lower case, without default port and path, "
                f"not {origin!r}"
            )


@final
class CrossOrigin:
    """The origins whose pages may read responses.

    Attributes:
        is_set: whether any origin is allowed.

    Raises:
        TypeError, ValueError: an origin is not acceptable, or every origin would be sent credentials.
    """

    def __init__(self, origins: Collection[str], *, with_credentials: bool) -> None:
        check_origins("cors_origins", origins)
        if "*" in origins and with_credentials:
            raise ValueError("cors_credentials needs a list of origins, not '*'")
        self.is_set = bool(origins)
        self._origins = frozenset(origins)
        self._with_credentials = with_credentials

    def fields(self, origin: str | None) -> dict[str, str]:
        """Return the header fields of a response to a request from this origin."""
        if not self._origins:
            return {}
        if "*" in self._origins:
            return {"Access-Control-Allow-Origin": "*"}
        fields = {"Vary": "Origin"}
        if origin in self._origins:
            fields["Access-Control-Allow-Origin"] = origin
            if self._with_credentials:
                fields["Access-Control-Allow-Credentials"] = "true"
        return fields

    def preflight_fields(self, origin: str | None, methods: str) -> dict[str, str]:
        """Return the header fields of a response to a preflight request."""
        fields = self.fields(origin)
        if "Access-Control-Allow-Origin" in fields:
            fields["Access-Control-Allow-Methods"] = methods
            fields["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Last-Event-ID"
            fields["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
        return fields

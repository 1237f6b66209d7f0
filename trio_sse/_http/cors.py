"""Cross-origin requests: who may read the streams from pages of other origins (WHATWG Fetch, 3.2)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import final

from .._validate import check_flags
from .fields import is_token

_PREFLIGHT_SECONDS = 7200

# The form in which browsers send origins (RFC 6454, 6.2): any other would never match.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_DEFAULT_PORTS = (("http", ":80"), ("https", ":443"))

# What pages often send. Several polyfills of EventSource send Cache-Control, as the browsers' own does,
# libraries add X-Requested-With, and tracing adds the fields of W3C Trace Context.
_USUAL_HEADERS = (
    *("Authorization", "Cache-Control", "Content-Type", "Last-Event-ID"),
    *("X-CSRF-Token", "X-Requested-With", "traceparent", "tracestate"),
)


def check_origins(option: str, origins: Collection[str]) -> None:
    """Check that each origin is `*`, `null`, or has the form in which browsers send it.

    An opaque origin, of a file or a sandboxed frame, is sent as `null` (WHATWG HTML, 7.1.1).

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
        if origin not in ("*", "null") and (match is None or match.groups() in _DEFAULT_PORTS):
            raise ValueError(
                "an origin must be like https://example.org, in lower case, without default port and path, "
                f"not {origin!r}"
            )


def _check_names(option: str, names: Collection[str], *, with_credentials: bool) -> None:
    if isinstance(names, str):
        raise TypeError(f"{option} must be a collection of header names, not one str")
    for name in names:
        if not is_token(name):
            raise ValueError(f"{option} must have names of header fields, not {name!r}")
    if with_credentials and "*" in names:  # it would be a name like any other (WHATWG Fetch, 3.3.3)
        raise ValueError(f"with cors_credentials, {option} needs a list of names, not '*'")


@final
class CrossOrigin:
    """The origins whose pages may read responses.

    Attributes:
        is_set: whether any origin is allowed.

    Args:
        headers: the names of request headers that pages may send besides the usual ones, or `*` for all.
        exposed_headers: the names of response headers that pages may read, or `*` for all.

    Raises:
        TypeError, ValueError: an origin or a name is not acceptable, or the pages of every site could send
            credentials.
    """

    def __init__(
        self,
        origins: Collection[str],
        *,
        with_credentials: bool,
        headers: Collection[str] = (),
        exposed_headers: Collection[str] = (),
    ) -> None:
        check_flags(cors_credentials=with_credentials)
        check_origins("cors_origins", origins)
        if with_credentials and "*" in origins:
            raise ValueError("cors_credentials needs a list of origins, not '*'")
        if with_credentials and "null" in origins:  # any site can put a page into a sandboxed frame
            raise ValueError("cors_credentials needs a list of origins, not 'null': any site can have it")
        _check_names("cors_headers", headers, with_credentials=with_credentials)
        _check_names("cors_exposed_headers", exposed_headers, with_credentials=with_credentials)
        self.is_set = bool(origins)
        self._origins = frozenset(origins)
        self._with_credentials = with_credentials
        self._headers = ", ".join([*_USUAL_HEADERS, *headers])
        self._exposed = ", ".join(exposed_headers)

    def fields(self, origin: str | None) -> dict[str, str]:
        """Return the header fields of a response to a request from this origin."""
        if not self._origins:
            return {}
        if "*" in self._origins:
            fields = {"Access-Control-Allow-Origin": "*"}
        else:
            fields = {"Vary": "Origin"}
            if origin not in self._origins:
                return fields
            fields["Access-Control-Allow-Origin"] = origin
            if self._with_credentials:
                fields["Access-Control-Allow-Credentials"] = "true"
        if self._exposed:
            fields["Access-Control-Expose-Headers"] = self._exposed
        return fields

    def preflight_fields(self, origin: str | None, methods: str) -> dict[str, str]:
        """Return the header fields of a response to a preflight request."""
        fields = self.fields(origin)
        if "Access-Control-Allow-Origin" in fields:
            fields["Access-Control-Allow-Methods"] = methods
            fields["Access-Control-Allow-Headers"] = self._headers
            fields["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
        return fields

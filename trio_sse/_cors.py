"""Cross-origin requests: who may read the streams from pages of other origins (WHATWG Fetch, 3.2)."""

from __future__ import annotations

from collections.abc import Collection
from typing import final
from urllib.parse import urlsplit

_PREFLIGHT_SECONDS = 7200


@final
class CrossOrigin:
    """The origins whose pages may read responses; by default none."""

    def __init__(self, origins: Collection[str], *, with_credentials: bool) -> None:
        if isinstance(origins, str):
            raise TypeError("cors_origins must be a collection of origins, not one str")
        for origin in origins:
            parts = urlsplit(origin)
            if origin != "*" and (f"{parts.scheme}://{parts.netloc}" != origin or not parts.netloc):
                raise ValueError(f"an origin is like https://example.org, without a path: not {origin!r}")
        if "*" in origins and with_credentials:
            raise ValueError("credentials can't be allowed to every origin: name the origins")
        self._origins = frozenset(origins)
        self._with_credentials = with_credentials

    @property
    def is_set(self) -> bool:
        """Whether any origin is allowed."""
        return bool(self._origins)

    def fields(self, origin: str | None) -> dict[str, str]:
        """Give the header fields of a response to a request from this origin."""
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
        """Give the header fields of the answer to a preflight request."""
        fields = self.fields(origin)
        if "Access-Control-Allow-Origin" in fields:
            fields["Access-Control-Allow-Methods"] = methods
            fields["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Last-Event-ID"
            fields["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
        return fields

"""Header fields: what a name and a value may consist of (RFC 9110, 5.1 and 5.5).

A field that passes these checks cannot break out of its line, so it cannot add a field or end the head.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

#: Header fields as an application sets them: a mapping, or pairs, in which a name may be repeated.
HeaderFields = Mapping[str, str] | Iterable[tuple[str, str]]

#: RFC 9110, 5.6.2: the names of methods, fields and subprotocols. A pattern, for `re`.
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

#: DNS has no empty labels, and none of more than 63 characters (RFC 1035, 2.3.4). For `re`, before a name.
#: Frameworks such as Quart fail at such a name.
DNS_LABELS = r"(?!\.|[^:]*\.\.|(?:[^:]*\.)?[^.:]{64})"

#: RFC 9110, 5.5: visible characters, spaces and tabs, and bytes above ASCII. A pattern, for `re`.
FIELD_VALUE = r"[\t\x20-\x7e\x80-\xff]*"

#: Fields that are one value. A proxy may look at the first one and a handler at the last, so a request that
#: repeats one is refused. `Host` and `Content-Length`, which are such fields, too, have checks of their own.
SINGLE_FIELDS = (
    "access-control-request-method",
    "authorization",
    "content-location",
    "content-range",
    "content-type",
    "date",
    "depth",
    "destination",
    "from",
    "http2-settings",
    "idempotency-key",
    "if-modified-since",
    "if-range",
    "if-unmodified-since",
    "last-event-id",
    "max-forwards",
    "origin",
    "overwrite",
    "proxy-authorization",
    "range",
    "referer",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-websocket-key",
    "sec-websocket-version",
    "user-agent",
    "x-csrf-token",
)

#: Fields that would change what a request means after the server has acted on it (RFC 9110, 6.5.1): who has
#: sent it, where it is routed and ends, under which conditions it is handled, and what its body is.
NOT_IN_TRAILERS = frozenset(
    (
        *(name.encode() for name in SINGLE_FIELDS),
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"cookie",
        b"expect",
        b"forwarded",
        b"host",
        b"if-match",
        b"if-none-match",
        b"keep-alive",
        b"pragma",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
    )
)

_NAME = re.compile(TOKEN)
_VALUE = re.compile(FIELD_VALUE)
_RAW_NAME = re.compile(TOKEN.encode())
_RAW_VALUE = re.compile(FIELD_VALUE.encode())

# A value from a command line, which may be any text and is sent as UTF-8.
_TEXT = re.compile(r"[\t\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]*")

# They say where a message ends and whether its connection stays open, which only the server knows.
_SET_BY_SERVER = frozenset(("connection", "content-length", "transfer-encoding"))


def is_token(text: str) -> bool:
    """Return whether a text is a token (RFC 9110, 5.6.2)."""
    return _NAME.fullmatch(text) is not None


def list_of(value: str) -> list[str]:
    """Return the items of a list (RFC 9110, 5.6.1); only spaces and tabs are white space there."""
    return [item.strip(" \t") for item in value.split(",")]


def field_pairs(fields: HeaderFields) -> tuple[tuple[str, str], ...]:
    """Return the header fields that an application sets on a response as pairs, checked.

    Of a subclass of `str`, such as a member of an enumeration, the value that is checked is sent.

    Raises:
        TypeError: they are neither a mapping nor pairs of strings.
        ValueError: a name or value cannot be sent, or the field is one that the server sets.
    """
    given = fields.items() if isinstance(fields, Mapping) else fields
    try:
        pairs = tuple((name, value) for name, value in given)
    except (TypeError, ValueError):
        raise TypeError("headers must be a mapping, or pairs of a name and a value") from None
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in pairs):
        raise TypeError("the names and values of header fields must be strings")
    pairs = tuple((str.__str__(name), str.__str__(value)) for name, value in pairs)
    for name, value in pairs:
        if not _NAME.fullmatch(name):
            raise ValueError(f"the name of header field {name!r} must be letters, digits and hyphens")
        if not _VALUE.fullmatch(value):
            raise ValueError(
                f"the value of header field {name!r} must be Latin-1 text without control characters"
            )
        if name.lower() in _SET_BY_SERVER:
            raise ValueError(f"header field {name!r} is set by the server")
    return pairs


def merge_fields(
    fields: Iterable[tuple[str, str]], added: Iterable[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return header fields, and others that replace those of the same name; `Vary` lists both values."""
    fields, added = list(fields), list(added)
    replaced = {name.lower() for name, _ in added}
    merged = [(name, value) for name, value in fields if name.lower() not in replaced]
    vary = [value for name, value in fields if name.lower() == "vary" and "vary" in replaced]
    if vary:
        vary += [value for name, value in added if name.lower() == "vary"]
        added = [(name, value) for name, value in added if name.lower() != "vary"]
        added.append(("Vary", ", ".join(dict.fromkeys(vary))))
    return merged + added


def check_raw_field(name: bytes, value: bytes) -> bytes:
    """Check a header field that an ASGI app sends, and return its name in lower case.

    Which fields it may set is the caller's to decide.

    Raises:
        ValueError: the name or the value cannot be sent.
    """
    lower = _checked_name(name)
    if lower is None or not _RAW_VALUE.fullmatch(value):
        raise ValueError(f"header field {name!r} has a name or a value that cannot be sent")
    return lower


@lru_cache(maxsize=512)  # an app sends the same fields with each response
def _checked_name(name: bytes) -> bytes | None:
    return name.lower() if _RAW_NAME.fullmatch(name) else None


def parse_field(text: str) -> tuple[str, str]:
    """Parse a request's header field from a command line; its value is sent as UTF-8.

    Raises:
        ValueError: it is not `Name: value`, or cannot be sent.
    """
    name, colon, value = text.partition(":")
    if not (colon and _NAME.fullmatch(name) and _TEXT.fullmatch(value)):
        raise ValueError(
            f"{text!r} is not like 'Name: value', with a name of letters, digits and hyphens, "
            "and no control characters"
        )
    return name, value.strip(" \t")

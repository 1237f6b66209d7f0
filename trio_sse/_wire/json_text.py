"""JSON as text that is always UTF-8.

A `str` may have half of a surrogate pair: JSON of JavaScript, and pieces of a language model's answer, may
split a character that way. UTF-8 cannot encode it, but JSON can write it as an escape (RFC 8259, 7 and 8.2).
A client that joins the pieces has the whole character again.
"""

from __future__ import annotations

import json
import re

# Made once: `json.dumps` with options makes one for each call.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

_SURROGATE = re.compile("[\ud800-\udfff]")


def compact_json(value: object) -> str:
    """Return a value as JSON on one line, without spaces, that UTF-8 can encode.

    Raises:
        TypeError: the value is not a JSON value.
        ValueError: it has NaN or an infinity, which are not JSON, or contains itself.
    """
    text = _encode(value)
    return text if text.isascii() else _escape_surrogates(text)


def replace_surrogates(text: str) -> str:
    """Return a text with U+FFFD for each lone surrogate, as the WHATWG's encoders have it."""
    return _SURROGATE.sub("\ufffd", join_surrogates(text))


def join_surrogates(text: str) -> str:
    """Return a text in which each pair of surrogates is the character that it encodes."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _escape_surrogates(text: str) -> str:
    """Return JSON with surrogates as escapes. JSON has them only in strings, where escapes are allowed."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text

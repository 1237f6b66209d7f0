"""Header fields, as applications and command lines give them: they must not break out of their lines."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TEXT = re.compile(
    r"[\t\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]*"
)  # what UTF-8 has, of which some make headers

# Where a message ends, and what becomes of its connection, is for the server to say.
_OF_THE_SERVER = frozenset(("connection", "content-length", "transfer-encoding"))


def check_fields(fields: Mapping[str, str]) -> None:
    """Refuse fields that can't be sent (RFC 9110, 5.5), and those that are the server's own.

    Raises:
        ValueError: a name or value is not acceptable.
    """
    for name, value in fields.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"header field {name!r} must have a name of letters, digits and hyphens")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"header field {name!r} must have no control characters, and Latin-1 only")
        if name.lower() in _OF_THE_SERVER:
            raise ValueError(f"header field {name!r} is set by the server")


def parse_field(text: str) -> tuple[str, str]:
    """Read a field of a request from a command line; its value is sent in UTF-8.

    Raises:
        ValueError: it can't be sent.
    """
    name, colon, value = text.partition(":")
    if not (colon and _NAME.fullmatch(name) and _TEXT.fullmatch(value)):
        raise ValueError(
            f"{text!r} is not like 'Name: value', with a name of letters, digits and hyphens, "
            "and no control characters"
        )
    return name, value.strip(" \t")

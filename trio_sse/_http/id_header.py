"""The name of the header field that has a connection's number."""

from __future__ import annotations

from .fields import field_pairs

# What streams, polls and handshakes set themselves, or a connection id would break.
_TAKEN = ("cache-control", "content-type", "set-cookie", "vary", "x-accel-buffering")
_TAKEN_BEGINNINGS = ("access-control-", "sec-")


def check_id_header(name: str | None) -> None:
    """Check the name of a header field that is to have a connection's number; `None` is for none.

    Raises:
        TypeError: it is not a `str`.
        ValueError: it is not a name, or is that of a field that has another meaning.
    """
    if name is None:
        return
    if not isinstance(name, str):
        raise TypeError(f"connection_id_header must be a str, not {type(name).__name__}")
    try:
        field_pairs([(name, "1")])
    except ValueError as error:
        raise ValueError(f"connection_id_header: {error}") from None
    if name.lower() in _TAKEN or name.lower().startswith(_TAKEN_BEGINNINGS):
        raise ValueError(f"connection_id_header: {name} has another meaning")

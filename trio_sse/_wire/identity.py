"""Identities: whose stream it is, such as a user's id."""

from __future__ import annotations

from .topic import harmful_character

#: The longest identity, in characters.
MAX_IDENTITY_LENGTH = 256


def check_identity(identity: object) -> str:
    """Return `identity` if it is acceptable.

    Raises:
        TypeError: it is not a `str`.
        ValueError: it is empty, too long, or has control characters, line ends or lone surrogates.
    """
    if not isinstance(identity, str):
        raise TypeError(f"an identity must be a str, not {type(identity).__name__}")
    identity = str.__str__(identity)
    if not 0 < len(identity) <= MAX_IDENTITY_LENGTH:
        raise ValueError(f"an identity must have 1 to {MAX_IDENTITY_LENGTH} characters, not {len(identity)}")
    if (harmful := harmful_character(identity)) is not None:
        raise ValueError(f"an identity must not have control characters or the like: U+{ord(harmful):04X}")
    return identity

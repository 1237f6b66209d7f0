"""The host names of a certificate, read from its DER form (X.690) as RFC 5280 describes it.

The `ssl` module does not return them for a certificate that is not a peer's.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

_OBJECT_IDENTIFIER = 0x06
_OCTET_STRING = 0x04
_EXTENSIONS = 0xA3  # [3] of a TBSCertificate
_DNS_NAME = 0x82  # [2] of a GeneralName
_SUBJECT_ALT_NAME = bytes([0x55, 0x1D, 0x11])  # 2.5.29.17

_END = "-----END CERTIFICATE-----"
_BEGIN = "-----BEGIN CERTIFICATE-----"


def names_of_certificate(pem: str) -> list[str]:
    """Return the host names of the first certificate in a PEM file, in lower case.

    Raises:
        ValueError: there is none, or it is not well formed.
    """
    start = pem.index(_BEGIN)
    block = pem[start : pem.index(_END, start) + len(_END)]
    der = ssl.PEM_cert_to_DER_cert(block)
    to_be_signed = _first(_first(der))
    return [
        name.decode("ascii").lower()
        for tag, wrapped in _elements(to_be_signed)
        if tag == _EXTENSIONS
        for _, extensions in _elements(wrapped)
        for _, extension in _elements(extensions)
        for name in _names_of_extension(extension)
    ]


def _first(data: bytes) -> bytes:
    """Return the contents of the first element."""
    for _, contents in _elements(data):
        return contents
    raise ValueError("the certificate is truncated")


def _names_of_extension(extension: bytes) -> Iterator[bytes]:
    parts = list(_elements(extension))  # the identifier, perhaps whether it is critical, and the value
    if not parts or parts[0] != (_OBJECT_IDENTIFIER, _SUBJECT_ALT_NAME) or parts[-1][0] != _OCTET_STRING:
        return
    for _, names in _elements(parts[-1][1]):
        for tag, name in _elements(names):
            if tag == _DNS_NAME:
                yield name


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the contents of each element in a row."""
    position = 0
    while position < len(data):
        try:
            tag, length = data[position], data[position + 1]
            position += 2
            if length >= 0x80:  # the length of the length
                size = length & 0x7F
                length = int.from_bytes(data[position : position + size], "big")
                position += size
        except IndexError:
            raise ValueError("the certificate is truncated") from None
        if position + length > len(data):
            raise ValueError("the certificate is truncated")
        yield tag, data[position : position + length]
        position += length

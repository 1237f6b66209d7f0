"""What an app's scope says about TLS (ASGI's TLS extension, version 0.2)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}

# The short names of RFC 4514, 3, for those that OpenSSL spells out.
_ATTRIBUTES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}


def tls_extension(session: ssl.SSLObject) -> dict[str, object]:
    """Return the extension. A client's certificate is in it if it was verified, or else there is none.

    The server's own certificate and the number of the cipher suite are not known to the `ssl` module.
    """
    try:
        certificate = session.getpeercert(binary_form=True)
    except ValueError:  # the peer has ended the session by an alert, behind its request
        certificate = None
    return {
        "server_cert": None,
        "client_cert_chain": [] if certificate is None else [ssl.DER_cert_to_PEM_cert(certificate)],
        "client_cert_name": None if certificate is None else _name_of(session.getpeercert() or {}),
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(session.version() or ""),
        "cipher_suite": None,
    }


def _name_of(certificate: Mapping[str, object]) -> str:
    """Return the subject as RFC 4514 writes it: the last part first."""
    subject = certificate.get("subject", ())
    assert isinstance(subject, tuple)
    return ",".join(
        "+".join(f"{_ATTRIBUTES.get(name, name)}={_escape(value)}" for name, value in part)
        for part in reversed(subject)
    )


def _escape(value: str) -> str:
    """Escape a value (RFC 4514, 2.4)."""
    escaped = "".join(f"\\{each}" if each in '"+,;<>\\' else each for each in value).replace("\0", "\\00")
    if escaped.startswith(("#", " ")):
        escaped = f"\\{escaped}"
    return f"{escaped[:-1]}\\ " if value.endswith(" ") and len(value) > 1 else escaped

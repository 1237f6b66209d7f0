"""TLS for tests: a server's context and a client's."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import trustme


@dataclass(frozen=True)
class Contexts:
    """What the two sides of a TLS connection need; the client trusts the server."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def make_contexts() -> Contexts:
    """Make an authority and a certificate for `localhost` and 127.0.0.1."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Contexts(server, client)

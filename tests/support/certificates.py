"""TLS for tests: a server's context and a client's."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

#: The certificate of an authority that has issued nothing: what clients trust by default in tests. To read
#: those of the system takes each of them 20 ms.
AUTHORITY = Path(__file__).with_name("authority.pem")


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


class Certificate:
    """A server's certificate and key as files, and the context of a client that trusts it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self.chain, self.key, self.both = folder / "chain.pem", folder / "key.pem", folder / "both.pem"
        issued.cert_chain_pems[0].write_to_path(self.chain)
        issued.private_key_pem.write_to_path(self.key)
        issued.private_key_and_cert_chain_pem.write_to_path(self.both)
        self.context = ssl.create_default_context()
        authority.configure_trust(self.context)

    def server_context(self) -> ssl.SSLContext:
        """Return a new context of a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context

"""What an app learns about TLS: ASGI's TLS extension."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

import httpx
import pytest
import trustme
from cryptography import x509
from cryptography.x509.oid import NameOID

from trio_sse import Server
from trio_sse._asgi.types import Receive, Scope, Send
from trio_sse._request.tls_extension import _escape, tls_extension

from ..support.cases import each_case
from ..support.certificates import make_contexts
from ..support.leaks import LeakCheck
from ..support.serving import on_sockets
from ..support.waiting import SECONDS


class Seen:
    """An app that keeps the scopes of its requests."""

    def __init__(self) -> None:
        self.extensions: list[dict[str, Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.extensions.append(scope["extensions"])
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})


async def extension(
    no_leak: LeakCheck,
    server_tls: ssl.SSLContext | None,
    client_tls: ssl.SSLContext | None,
    *,
    http2: bool = False,
) -> dict[str, Any] | None:
    app = Seen()
    server = no_leak.watch(Server(app))
    async with on_sockets(server, server_tls=server_tls, client_tls=client_tls) as serving:
        verify = True if client_tls is None else client_tls
        async with httpx.AsyncClient(verify=verify, http2=http2, timeout=SECONDS) as client:
            response = await client.get(serving.url("/"))
            assert (response.status_code, response.http_version) == (204, "HTTP/2" if http2 else "HTTP/1.1")
    (found,) = app.extensions
    return found.get("tls")


async def test_without_tls_there_is_none(no_leak: LeakCheck) -> None:
    assert await extension(no_leak, None, None) is None


@pytest.mark.parametrize(
    ("version", "number"), [(ssl.TLSVersion.TLSv1_2, 0x0303), (ssl.TLSVersion.TLSv1_3, 0x0304)]
)
async def test_a_client_without_a_certificate(
    no_leak: LeakCheck, version: ssl.TLSVersion, number: int
) -> None:
    contexts = make_contexts()
    contexts.client.maximum_version = version
    assert await extension(no_leak, contexts.server, contexts.client) == {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": number,
        "cipher_suite": None,
    }


@pytest.mark.parametrize("http2", [False, True])
async def test_a_client_with_a_certificate(no_leak: LeakCheck, http2: bool) -> None:
    contexts, authority = make_contexts(), trustme.CA()
    authority.configure_trust(contexts.server)
    contexts.server.verify_mode = ssl.CERT_REQUIRED
    own = authority.issue_cert("ada@example.org", common_name="Lovelace, Ada", organization_name="Engine")
    own.configure_cert(contexts.client)
    found = await extension(no_leak, contexts.server, contexts.client, http2=http2)
    assert found is not None
    (chain,) = found["client_cert_chain"]
    certificate = x509.load_pem_x509_certificate(chain.encode())
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "Lovelace, Ada"
    assert found["client_cert_name"].split(",OU=")[0] == "CN=Lovelace\\, Ada"
    assert found["client_cert_name"].endswith(",O=Engine")


@each_case(
    ("value", "text"),
    [
        ("Ada", "Ada"),
        ('a+"b"\\;<c>', 'a\\+\\"b\\"\\\\\\;\\<c\\>'),
        ("#a", "\\#a"),
        (" a ", "\\ a\\ "),
        (" ", "\\ "),
    ],
)
def test_values_are_escaped(value: str, text: str) -> None:
    assert _escape(value) == text


def test_a_session_that_its_peer_has_broken_has_no_certificate() -> None:
    contexts = make_contexts()
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = contexts.client.wrap_bio(to_client, to_server, server_hostname="localhost")
    session = contexts.server.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, session, client, session):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    to_server.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError):
        session.read()
    assert tls_extension(session)["client_cert_name"] is None

"""Certificates from files: by name, of clients, and loaded again. Handshakes are in memory."""

from __future__ import annotations

import contextlib
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from trio_sse._program.certificate_names import names_of_certificate
from trio_sse._program.certificates import Certificates, TLSOptions
from trio_sse._program.errors import ProgramError


class Files:
    """Certificates of one authority, as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authorities = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.authorities)

    def issue(self, name: str, *hosts: str) -> str:
        """Write a certificate for some hosts, with its key, and return its file."""
        path = self.folder / f"{name}.pem"
        self.authority.issue_cert(*hosts).private_key_and_cert_chain_pem.write_to_path(path)
        return str(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def shake_hands(
    certificates: Certificates,
    files: Files,
    name: str | None = None,
    *,
    own: trustme.LeafCert | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the server's certificate as the client sees it, and the client's as the server sees it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = version
    files.authority.configure_trust(context)
    if own is not None:
        own.configure_cert(context)
    client, server = connect(certificates, context, name)
    seen = client.getpeercert()
    assert seen is not None
    return seen, server.getpeercert()


def connect(
    certificates: Certificates, context: ssl.SSLContext, name: str | None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return the two ends of a connection."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return client, server


@pytest.mark.parametrize("asked", ["a.example", "b.example", "unknown.example", None])
@pytest.mark.parametrize("is_reloaded", [False, True])
def test_http2_is_offered_whichever_certificate_is_chosen(
    files: Files, asked: str | None, is_reloaded: bool
) -> None:
    chains = [files.issue("a", "a.example"), files.issue("b", "b.example")]
    for offers_http2, expected in ((True, "h2"), (False, None)):
        certificates = Certificates(TLSOptions(certfiles=chains, offers_http2=offers_http2))
        if is_reloaded:
            assert certificates.reload()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        # The client prefers a cipher that HTTP/2 forbids (RFC 9113, appendix A).
        context.set_ciphers("ECDHE+AES256+SHA384:ECDHE+AESGCM")
        context.set_alpn_protocols(["http/1.1", "h2"])
        files.authority.configure_trust(context)
        client = connect(certificates, context, asked)[0]
        assert client.selected_alpn_protocol() == expected
        cipher = client.cipher()
        assert cipher is not None
        assert "GCM" in cipher[0]


def hosts_of(certificate: dict[str, Any]) -> set[str]:
    return {host for _, host in certificate["subjectAltName"]}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("a.example", "a.example"),
        ("b.example", "b.example"),
        ("B.EXAMPLE", "b.example"),
        ("x.w.example", "b.example"),
        ("y.x.w.example", "a.example"),
        ("w.example", "a.example"),
        ("unknown.example", "a.example"),
        (None, "a.example"),
    ],
)
def test_a_client_gets_the_certificate_for_the_name_that_it_asks_for(
    files: Files, version: ssl.TLSVersion, asked: str | None, answered: str
) -> None:
    chains = [files.issue("a", "a.example"), files.issue("b", "b.example", "*.w.example")]
    seen, _ = shake_hands(Certificates(TLSOptions(certfiles=chains)), files, asked, version=version)
    assert answered in hosts_of(seen)


@pytest.mark.parametrize("name", [b"caf\xc3\xa9.example", b"\xff\xfe"])
def test_a_name_that_is_not_ascii_is_refused_and_prints_nothing(
    files: Files, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)  # pytest has its own
    certificates = Certificates(TLSOptions(certfiles=[files.issue("a", "a.example")]))
    hello, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asked = "q" * len(name)
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=asked)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello.write(hello.read().replace(asked.encode(), name))
    server = certificates.context.wrap_bio(hello, to_client, server_side=True)
    with pytest.raises(ssl.SSLError):
        server.do_handshake()
    assert to_client.read()  # the alert
    assert capfd.readouterr().err == ""


def test_what_else_python_cannot_raise_is_printed(
    files: Files, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    Certificates(TLSOptions(certfiles=[files.issue("a", "a.example")]))

    class Fails:
        def __del__(self) -> None:
            b"\xff".decode("ascii")

    Fails()
    assert "Fails.__del__" in capfd.readouterr().err


def test_certificates_that_are_loaded_again_are_for_new_handshakes(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    chain = files.issue("a", "old.example")
    certificates = Certificates(TLSOptions(certfiles=[chain]))
    files.issue("a", "new.example")
    assert hosts_of(shake_hands(certificates, files)[0]) == {"old.example"}
    caplog.set_level("INFO")
    assert certificates.reload()
    assert "new.example" in caplog.text
    assert hosts_of(shake_hands(certificates, files)[0]) == {"new.example"}


@pytest.mark.parametrize("change", ["broken", "missing", "key of another"])
def test_files_that_cannot_be_used_change_nothing(
    files: Files, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    chain = Path(files.issue("a", "a.example"))
    certificates = Certificates(TLSOptions(certfiles=[str(chain)]))
    match change:
        case "broken":
            chain.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
        case "missing":
            chain.unlink()
        case "key of another":
            key = files.authority.issue_cert("b.example").private_key_pem.bytes()
            text = chain.read_bytes()
            chain.write_bytes(key + text[text.index(b"-----BEGIN CERTIFICATE") :])
    assert not certificates.reload()
    (record,) = caplog.records
    assert f"cannot use the certificate {chain}" in record.getMessage()
    assert "stay as they are" in record.getMessage()
    assert hosts_of(shake_hands(certificates, files)[0]) == {"a.example"}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_needs_a_certificate_of_the_authority(files: Files, version: ssl.TLSVersion) -> None:
    options = TLSOptions(certfiles=[files.issue("a", "a.example")], client_ca=str(files.authorities))
    certificates = Certificates(options)
    own = files.authority.issue_cert("ada@example.org")
    _, seen = shake_hands(certificates, files, own=own, version=version)
    assert seen is not None
    assert hosts_of(seen) == {"ada@example.org"}
    for wrong in (None, trustme.CA().issue_cert("eve@example.org")):
        with pytest.raises(ssl.SSLError):
            shake_hands(certificates, files, own=wrong, version=version)


def test_a_client_may_have_no_certificate_if_it_is_optional(files: Files) -> None:
    options = TLSOptions(
        certfiles=[files.issue("a", "a.example")],
        client_ca=str(files.authorities),
        client_certificates="optional",
    )
    certificates = Certificates(options)
    assert not shake_hands(certificates, files)[1]
    assert shake_hands(certificates, files, own=files.authority.issue_cert("ada@example.org"))[1]
    with pytest.raises(ssl.SSLError):
        shake_hands(certificates, files, own=trustme.CA().issue_cert("eve@example.org"))


def test_an_authority_that_is_loaded_again_is_for_new_handshakes(files: Files) -> None:
    options = TLSOptions(certfiles=[files.issue("a", "a.example")], client_ca=str(files.authorities))
    certificates = Certificates(options)
    other = trustme.CA()
    other.cert_pem.write_to_path(files.authorities)
    assert certificates.reload()
    assert shake_hands(certificates, files, own=other.issue_cert("ada@example.org"))[1]
    with pytest.raises(ssl.SSLError):
        shake_hands(certificates, files, own=files.authority.issue_cert("ada@example.org"))


def encrypt_key(files: Files) -> str:
    leaf = files.authority.issue_cert("a.example")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    chain = files.folder / "encrypted.pem"
    chain.write_bytes(pem + leaf.cert_chain_pems[0].bytes())
    return str(chain)


def test_an_encrypted_key_needs_its_password(files: Files) -> None:
    chain = encrypt_key(files)
    Certificates(TLSOptions(certfiles=[chain], password="secret"))
    with pytest.raises(ProgramError, match="TRIO_SSE_KEYFILE_PASSWORD"):
        Certificates(TLSOptions(certfiles=[chain]))
    with pytest.raises(ProgramError, match="cannot use the certificate") as raised:
        Certificates(TLSOptions(certfiles=[chain], password="wrong"))
    assert "wrong" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keyfiles": ["a", "b"]}, "as many --keyfile as --certfile"),
        ({"ciphers": "none at all"}, "--ciphers: "),
        ({"client_ca": "/nowhere.pem"}, "cannot use the authorities /nowhere.pem"),
    ],
)
def test_options_that_are_not_acceptable_are_reported(
    files: Files, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProgramError, match=message):
        Certificates(TLSOptions(certfiles=[files.issue("a", "a.example")], **change))


# Names


def test_the_names_of_a_certificate_are_its_host_names(files: Files) -> None:
    hosts = ["Example.org", "*.example.org", "192.0.2.1", "ada@example.org"]
    hosts += [f"host-{number}.example" for number in range(300)]  # longer than one byte of a length says
    pem = Path(files.issue("a", *hosts)).read_text()
    assert names_of_certificate(pem) == ["example.org", "*.example.org", *hosts[4:]]


def test_an_authority_without_names_has_none(files: Files) -> None:
    assert names_of_certificate(files.authorities.read_text()) == []


def test_a_malformed_certificate_is_a_value_error(files: Files) -> None:
    der = ssl.PEM_cert_to_DER_cert(files.authority.cert_pem.bytes().decode())
    for end in range(0, len(der), 7):
        with pytest.raises(ValueError):  # noqa: PT011  # whatever is missing
            names_of_certificate(ssl.DER_cert_to_PEM_cert(der[:end]))
    with pytest.raises(ValueError, match="substring"):
        names_of_certificate("no certificate")

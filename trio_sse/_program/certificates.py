"""TLS certificates from files: several by name, those of clients, and loading them again.

All handshakes begin with one context, which stays. Its callback gives each handshake the context of the
certificate for the name that the client asks for. To load certificates again is to make these contexts anew,
and to change what the callback returns: a handshake has either the old ones or the new ones, connections that
are open keep theirs, and files that cannot be used change nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, final

from .._logger import get_logger
from .._process.host_names import print_no_undecodable_host_names
from .._server.serving import ALPN_PROTOCOLS
from .certificate_names import names_of_certificate
from .errors import ProgramError

logger = get_logger("trio_sse.program")

ClientCertificates = Literal["required", "optional"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TLSOptions:
    """The options of TLS.

    Attributes:
        certfiles: PEM files with a certificate chain each; the first is for clients that name none of them.
        keyfiles: the files of their keys, in the same order; empty if the keys are in those of the
            certificates.
        password: of the keys that are encrypted.
        client_ca: a PEM file with the authorities of clients' certificates, `None` to ask for none.
        client_certificates: whether a client may have none.
        ciphers: the ciphers of TLS 1.2, in OpenSSL's format.
        offers_http2: whether clients may choose HTTP/2 (ALPN). Each context says so, as OpenSSL asks the one
            that the name has chosen. No cipher is left out for it: the server's order decides, and begins
            with those that HTTP/2 allows (RFC 9113, 9.2.2).
    """

    certfiles: Sequence[str]
    keyfiles: Sequence[str] = ()
    password: str | None = None
    client_ca: str | None = None
    client_certificates: ClientCertificates = "required"
    ciphers: str | None = None
    offers_http2: bool = False


class _Loaded(NamedTuple):
    """The contexts of the certificates, by their names, and that of the first one."""

    first: ssl.SSLContext
    by_name: Mapping[str, ssl.SSLContext]

    def select(self, name: str | None) -> ssl.SSLContext:
        """Return the context for a client that asks for a name: its own, or that of a wildcard (RFC 6125)."""
        if name is None:
            return self.first
        name = name.lower().rstrip(".")
        wildcard = f"*.{name.partition('.')[2]}"
        return self.by_name.get(name) or self.by_name.get(wildcard) or self.first


@final
class Certificates:
    """The certificates of a program.

    Attributes:
        context: what to serve with.

    Raises:
        ProgramError: they cannot be used.
    """

    def __init__(self, options: TLSOptions) -> None:
        if options.keyfiles and len(options.keyfiles) != len(options.certfiles):
            raise ProgramError("give as many --keyfile as --certfile, in the same order, or none")
        self._options = options
        self._loaded = self._load()
        self.context = self._make_context(0)
        self.context.sni_callback = self._choose
        print_no_undecodable_host_names()

    def reload(self, *, is_logged: bool = True) -> bool:
        """Load the files again, for new connections; return whether that worked. A failure is logged."""
        try:
            loaded = self._load()
        except ProgramError as error:
            logger.error("%s; the certificates stay as they are", error)
            return False
        self._loaded = loaded
        if is_logged:
            logger.info("loaded the certificates again: %s", ", ".join(loaded.by_name) or "without names")
        return True

    def _choose(self, session: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: object) -> None:
        session.context = self._loaded.select(name)

    def _load(self) -> _Loaded:
        by_name: dict[str, ssl.SSLContext] = {}
        contexts = []
        for number, certfile in enumerate(self._options.certfiles):
            context = self._make_context(number)
            contexts.append(context)
            for name in _names_of(certfile):
                by_name.setdefault(name, context)
        return _Loaded(contexts[0], by_name)

    def _make_context(self, number: int) -> ssl.SSLContext:
        """Return a new context with one of the certificates."""
        options = self._options
        certfile = options.certfiles[number]
        keyfile = options.keyfiles[number] if options.keyfiles else None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if options.ciphers is not None:
            try:
                context.set_ciphers(options.ciphers)
            except ssl.SSLError as error:
                raise ProgramError(f"--ciphers: {error}") from error
        if options.offers_http2:
            context.set_alpn_protocols(ALPN_PROTOCOLS)
        try:
            context.load_cert_chain(certfile, keyfile, _password_for(keyfile or certfile, options.password))
        except (OSError, ssl.SSLError) as error:
            raise ProgramError(f"cannot use the certificate {certfile}: {error}") from error
        if options.client_ca is not None:
            self._ask_for_certificates(context, options.client_ca)
        return context

    def _ask_for_certificates(self, context: ssl.SSLContext, authorities: str) -> None:
        try:
            context.load_verify_locations(cafile=authorities)
        except (OSError, ssl.SSLError) as error:
            raise ProgramError(f"cannot use the authorities {authorities}: {error}") from error
        is_required = self._options.client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
        # A session that is resumed would not be checked against authorities that were loaded meanwhile.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0


def _password_for(file: str, password: str | None) -> Callable[[], str]:
    """Return what OpenSSL calls for an encrypted key's password; otherwise, it would ask the terminal."""

    def get() -> str:
        if password is None:
            raise ProgramError(f"the key in {file} is encrypted: set TRIO_SSE_KEYFILE_PASSWORD")
        return password

    return get


def _names_of(certfile: str) -> list[str]:
    try:
        return names_of_certificate(Path(certfile).read_text(encoding="utf-8", errors="replace"))
    except OSError as error:  # it may be replaced at this moment
        raise ProgramError(f"cannot use the certificate {certfile}: {error}") from error
    except ValueError:  # OpenSSL knows more forms; such a certificate is only used if it is the first
        return []

"""The options of TLS."""

from __future__ import annotations

from typing import NamedTuple, final

import click

from .._program.certificates import Certificates, ClientCertificates, TLSOptions
from .._program.errors import ProgramError
from .grouped_options import grouped

_FILE = click.Path(exists=True, dir_okay=False)


@final
class TLSValues(NamedTuple):
    """The values of the options."""

    certfiles: tuple[str, ...]
    keyfiles: tuple[str, ...]
    keyfile_password: str | None
    client_ca: str | None
    client_certificates: ClientCertificates
    ciphers: str | None

    def load(self, *, offers_http2: bool) -> Certificates | None:
        """Return the certificates, or `None` without any.

        Args:
            offers_http2: whether clients may choose HTTP/2.

        Raises:
            ProgramError: they cannot be used.
        """
        if not self.certfiles:
            for flag, value in (("--keyfile", self.keyfiles), ("--client-ca", self.client_ca)):
                if value:
                    raise ProgramError(f"{flag} needs --certfile")
            return None
        options = TLSOptions(
            certfiles=self.certfiles,
            keyfiles=self.keyfiles,
            password=self.keyfile_password,
            client_ca=self.client_ca,
            client_certificates=self.client_certificates,
            ciphers=self.ciphers,
            offers_http2=offers_http2,
        )
        return Certificates(options)


add_tls_options = grouped(
    "tls",
    TLSValues,
    TLSValues._fields,
    [
        click.option(
            "--certfile",
            "certfiles",
            type=_FILE,
            multiple=True,
            envvar="TRIO_SSE_CERTFILE",
            help="Serve over TLS, with the certificate chain in this PEM file. Can be repeated: each client "
            "gets the one for the name that it asks for, or else the first.",
        ),
        click.option(
            "--keyfile",
            "keyfiles",
            type=_FILE,
            multiple=True,
            envvar="TRIO_SSE_KEYFILE",
            help="PEM file with the certificate's key, if it is not in --certfile. Can be repeated, in the "
            "same order.",
        ),
        click.option(
            "--keyfile-password",
            envvar="TRIO_SSE_KEYFILE_PASSWORD",
            metavar="TEXT",
            help="Password of the keys. Put it into the environment: others can read the command line.",
        ),
        click.option(
            "--client-ca",
            type=_FILE,
            envvar="TRIO_SSE_CLIENT_CA",
            help="Ask clients for a certificate of the authorities in this PEM file.",
        ),
        click.option(
            "--client-certificates",
            type=click.Choice(["required", "optional"]),
            default="required",
            show_default=True,
            envvar="TRIO_SSE_CLIENT_CERTIFICATES",
            help="Whether a client needs a certificate, if there is --client-ca.",
        ),
        click.option(
            "--ciphers",
            envvar="TRIO_SSE_CIPHERS",
            metavar="LIST",
            help="Ciphers of TLS 1.2, in OpenSSL's format.",
        ),
    ],
)

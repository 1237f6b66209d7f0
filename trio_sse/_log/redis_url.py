"""The check of a Redis URL, before anything connects to it."""

from __future__ import annotations

import re
import ssl
from urllib.parse import SplitResult, parse_qsl, urlsplit

_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_OPTION = re.compile("[a-z_]{1,32}")
_FORMS = "redis://[user:password@]host[:port][/database], rediss://... or unix:///path[?db=database]"


def check_redis_url(url: str) -> ssl.SSLContext | None:
    """Return the TLS context that a URL asks for, or `None` if it asks for none.

    Raises:
        ValueError: it is not a Redis URL, or its files can't be used for TLS. The text contains no password.
    """
    parts = _split(url)
    if parts.scheme == "unix":
        known: tuple[str, ...] = ("db",)
        is_valid = not parts.netloc.rpartition("@")[2] and len(parts.path) > 1
    else:
        known = ("db", *_TLS_OPTIONS) if parts.scheme == "rediss" else ("db",)
        is_valid = parts.scheme in ("redis", "rediss") and bool(parts.hostname)
        _check_database(parts.path.strip("/") or "0")
    if not is_valid:
        raise ValueError(f"a Redis URL is {_FORMS}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := options.keys() - set(known):
        name = min(unknown)
        if not _OPTION.fullmatch(name):
            raise _unclear()
        raise ValueError(f"a {parts.scheme}:// URL has no option {name!r}; it may have {', '.join(known)}")
    _check_database(options.get("db", "0"))
    return _make_context(options) if parts.scheme == "rediss" else None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text may contain a part of a password with a slash
        port = 0
    if port == 0:
        raise _unclear()
    return parts


def _unclear() -> ValueError:
    """Return the error for a part that may belong to a password with a slash: it is not in the text."""
    return ValueError(
        f"a Redis URL is {_FORMS}; the port is 1 to 65535, the database is a whole number, and special "
        "characters in a password are percent-encoded: %2F for a slash"
    )


def _check_database(text: str) -> None:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _unclear()


def _make_context(options: dict[str, str]) -> ssl.SSLContext:
    """Return a context that checks the server's certificate and name, unless the URL disables that."""
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except OSError as error:  # OpenSSL's errors among them
        raise ValueError(f"the files of a rediss:// URL can't be used: {error}") from error
    checks = options.get("ssl_check_hostname", "true").lower()
    if checks not in ("true", "false"):
        raise ValueError(f"ssl_check_hostname must be true or false, not {checks!r}")
    context.check_hostname = checks == "true"
    match options.get("ssl_cert_reqs", "required"):
        case "required":
            pass
        case "none":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        case other:
            raise ValueError(f"ssl_cert_reqs must be required or none, not {other!r}")
    return context

"""The check of a Redis URL, before anything connects to it."""

from __future__ import annotations

import ssl
from urllib.parse import SplitResult, parse_qsl, urlsplit

from .log_url import REDIS_FORMS, log_url_error

_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")


def check_redis_url(url: str) -> ssl.SSLContext | None:
    """Return the TLS context that a URL asks for, or `None` if it asks for none.

    Raises:
        ValueError: it is not a Redis URL, or its files cannot be used for TLS. The text quotes nothing of it.
    """
    parts = _split(url)
    if parts.scheme == "unix":
        known: tuple[str, ...] = ("db",)
        is_valid = not parts.netloc.rpartition("@")[2] and len(parts.path) > 1
    else:
        known = ("db", *_TLS_OPTIONS) if parts.scheme == "rediss" else ("db",)
        is_valid = parts.scheme in ("redis", "rediss") and bool(parts.hostname)
        _check_database(url, parts.path.strip("/") or "0")
    if not is_valid:
        raise log_url_error(url, f"a Redis URL is {REDIS_FORMS}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "@" in parts.query or parts.fragment:  # what is before them would be taken for the host
        raise _unclear(url)
    if options.keys() - set(known):
        raise log_url_error(url, f"a {parts.scheme}:// URL has no options but these: {', '.join(known)}")
    _check_database(url, options.get("db", "0"))
    return _make_context(url, options) if parts.scheme == "rediss" else None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:  # its text may contain a part of a password with a slash
        port = 0
    if port == 0:
        raise _unclear(url)
    return parts


def _unclear(url: str) -> ValueError:
    """Return the error for a URL that cannot be split without doubt: a part may belong to the password."""
    return log_url_error(
        url,
        f"a Redis URL is {REDIS_FORMS}; the port is 1 to 65535, the database is a whole number, and special "
        "characters in a password are percent-encoded: %2F for a slash",
    )


def _check_database(url: str, text: str) -> None:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _unclear(url)


def _make_context(url: str, options: dict[str, str]) -> ssl.SSLContext:
    """Return a context that checks the server's certificate and name, unless the URL disables that."""
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except (OSError, ValueError) as error:  # OpenSSL's errors among them; a NUL in a file's name
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "not a file's name"
        raise log_url_error(url, f"the files of a rediss:// URL cannot be used: {reason}") from None
    checks = options.get("ssl_check_hostname", "true").lower()
    if checks not in ("true", "false"):
        raise log_url_error(url, "ssl_check_hostname must be true or false")
    context.check_hostname = checks == "true"
    match options.get("ssl_cert_reqs", "required"):
        case "required":
            pass
        case "none":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        case _:
            raise log_url_error(url, "ssl_cert_reqs must be required or none")
    return context

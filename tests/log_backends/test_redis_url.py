"""What a log on Redis refuses before it connects."""

from __future__ import annotations

import ssl

import pytest

from trio_sse._log_backends.redis_url import check_redis_url
from trio_sse.redis import RedisLog

from ..support.cases import each_case


@each_case(
    ("url", "text"),
    [
        ("http://host", "a Redis URL is redis://"),
        ("redis://", "a Redis URL is redis://"),
        ("redis:///0", "a Redis URL is redis://"),
        ("redis://[::1", "a Redis URL is redis://"),
        ("redis://:secret@host:port", "the port is 1 to 65535"),
        ("redis://:secret@host:70000", "the port is 1 to 65535"),
        ("redis://host:0", "the port is 1 to 65535"),
        ("redis://:secret/word@host", "%2F for a slash"),
        ("redis://:p@ss/secret@db.internal/0", "%2F for a slash"),
        ("redis://user:12/secret@host:6379/0", "%2F for a slash"),
        ("redis://:p@h?secret@db/0", "%2F for a slash"),
        ("redis://host/first", "the database is a whole number"),
        ("redis://host?db=-1", "the database is a whole number"),
        ("redis://host?max_connections=1", "no options but these: db$"),
        ("redis://host?ssl_ca_certs=x", "no options but these: db$"),
        ("unix://path", "unix:///path"),
        ("rediss://host?ssl_ca_certs=/nowhere/ca.pem", "cannot be used: .*No such file"),
        ("rediss://host?ssl_certfile=/dev/null", "cannot be used"),
        ("rediss://host?ssl_cert_reqs=optional", "required or none"),
        ("rediss://host?ssl_check_hostname=maybe", "true or false"),
    ],
)
def test_a_url_that_cannot_work_is_refused_at_once(url: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as raised:
        RedisLog(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("option", "mode"),
    [
        ("", ssl.CERT_REQUIRED),
        ("?ssl_check_hostname=False", ssl.CERT_REQUIRED),
        ("?ssl_cert_reqs=none", ssl.CERT_NONE),
    ],
)
def test_the_url_decides_what_tls_checks(option: str, mode: ssl.VerifyMode) -> None:
    context = check_redis_url(f"rediss://host{option}")
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (mode, option == "")


def test_more_events_than_any_store_can_count_are_refused() -> None:
    with pytest.raises(ValueError, match=r"max_events must be below 2\*\*63"):
        RedisLog("redis://host", max_events=2**63)


def test_a_prefix_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="prefix has a lone surrogate"):
        RedisLog("redis://host", prefix="\ud800")

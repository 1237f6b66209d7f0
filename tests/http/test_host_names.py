"""The host names of an option: which can match, and how they are compared."""

from __future__ import annotations

import pytest

from trio_sse import Server
from trio_sse._http.host_names import canonical_host, host_names
from trio_sse._http.request_head import parse_head


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("example.org", "example.org"),
        ("example.org", "example.org:8000"),
        ("example.org", "EXAMPLE.org."),
        ("Example.ORG.", "example.org"),
        ("my_service", "my_service:80"),
        ("a%20B", "A%20b"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("127.0.0.1", "127.0.0.1:8000"),
        ("::1", "[::1]:8000"),
        ("[::1]", "[0:0:0:0:0:0:0:1]"),
        ("2001:DB8::0:1", "[2001:db8::1]"),
    ],
)
def test_hosts_that_are_equal_match(entry: str, host: str) -> None:
    head = parse_head(f"GET / HTTP/1.1\r\nHost: {host}".encode())
    assert canonical_host(head.host) in host_names("hosts", [entry])


@pytest.mark.parametrize("host", ["example.org..", "a.example.org", "example", "[::2]", "[::1.2.3.4.5]"])
def test_other_hosts_do_not_match(host: str) -> None:
    assert canonical_host(host) not in host_names("hosts", ["example.org", "::1"])


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        ("", "not empty"),
        ("example.org:8000", "without its port"),
        ("[::1]:8000", "without its port"),
        ("fe80::1%eth0", "without its port"),
        ("https://example.org", "without a scheme"),
        ("//example.org", "without a scheme"),
        ("example.org/", "without a scheme and a path"),
        ("*", "no wildcards"),
        ("*.example.org", "no wildcards"),
        ("b\xfccher.example", "xn--"),
        ("a b", "not allowed in a host name"),
        ("example.org\n", "not allowed in a host name"),
        ("[example]", "not allowed in a host name"),
        ("a%2", "not allowed in a host name"),
        ("a%0db", "not allowed in a host name"),
        (".", "not allowed in a host name"),
    ],
)
def test_a_host_that_can_never_match_is_refused(entry: str, advice: str) -> None:
    with pytest.raises(ValueError, match=f"allowed_hosts cannot match .*{advice}"):
        Server(allowed_hosts=["example.org", entry])


def test_a_list_without_hosts_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed_hosts must have a host; leave it out to allow all"):
        Server(allowed_hosts=[])


@pytest.mark.parametrize("hosts", ["example.org", [b"example.org"], [None]])
def test_hosts_are_a_collection_of_strings(hosts: object) -> None:
    with pytest.raises(TypeError, match="allowed_hosts must"):
        Server(allowed_hosts=hosts)  # type: ignore[arg-type]

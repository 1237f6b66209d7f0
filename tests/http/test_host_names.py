"""The host names of an option: which can match, and how they are compared."""

from __future__ import annotations

import pytest

from trio_sse import Server
from trio_sse._http.host_names import canonical_host, host_names
from trio_sse._http.request_head import parse_head

from ..support.cases import each_case


@each_case(
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


@each_case("host", ["example.org..", "a.example.org", "example", "[::2]", "[::1.2.3.4.5]"])
def test_other_hosts_do_not_match(host: str) -> None:
    assert canonical_host(host) not in host_names("hosts", ["example.org", "::1"])


PORT = "write the name without its port: every port matches"
SCHEME = "write the host name alone, without a scheme and a path"
WILDCARD = "there are no wildcards: list the names, or leave the option out to allow all"
ASCII = "write an international name as requests have it, in ASCII (xn--...)"
CHARACTERS = "it has characters that are not allowed in a host name"


@each_case(
    ("entry", "advice"),
    [
        ("", "a host name is not empty"),
        ("example.org:8000", PORT),
        ("[::1]:8000", PORT),
        ("1::1]", PORT),
        ("[::11", PORT),
        ("fe80::1%eth0", PORT),
        ("https://example.org", SCHEME),
        ("//example.org", SCHEME),
        ("example.org/", SCHEME),
        ("*", WILDCARD),
        ("*.example.org", WILDCARD),
        ("b\xfccher.example", ASCII),
        ("a b", CHARACTERS),
        ("example.org\n", CHARACTERS),
        ("[example]", CHARACTERS),
        ("a%2", CHARACTERS),
        ("a%0db", CHARACTERS),
        (".", CHARACTERS),
    ],
)
def test_a_host_that_can_never_match_is_refused(entry: str, advice: str) -> None:
    with pytest.raises(ValueError, match="cannot match") as excinfo:
        Server(allowed_hosts=["example.org", entry])
    assert str(excinfo.value) == f"allowed_hosts cannot match {entry!r}: {advice}"


def test_what_is_compared_has_lower_case() -> None:
    assert host_names("hosts", ["Example.ORG.", "FD00::A"]) == {"example.org", "[fd00::a]"}


def test_a_host_is_a_string() -> None:
    with pytest.raises(TypeError, match=r"^hosts must have strings, not int$"):
        host_names("hosts", [7])  # type: ignore[list-item]


def test_a_list_without_hosts_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed_hosts must have a host; leave it out to allow all"):
        Server(allowed_hosts=[])


@pytest.mark.parametrize("hosts", ["example.org", [b"example.org"], [None]])
def test_hosts_are_a_collection_of_strings(hosts: object) -> None:
    with pytest.raises(TypeError, match="allowed_hosts must"):
        Server(allowed_hosts=hosts)  # type: ignore[arg-type]

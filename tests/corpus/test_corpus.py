"""All cases on all hosts, in memory: what comes of each is what its rule says."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio.testing

from ..support.certificates import Contexts
from ..support.leaks import MakeServer
from . import case, http1, http2, proxy, tls
from .subjects import KINDS, Subject

#: Set it to have every case sent both ways to every host, and not only a share to some of them.
IS_COMPLETE = "TRIO_SSE_CORPUS" in os.environ

# TLS costs more than all the rest, and none of the rules depends on it.
_SHARE_OVER_TLS = 40

Choose = Callable[[list[case.Case], str, str], list[case.Case]]
FILES = {name: case.read(name) for name in case.names()}


ON_SERVERS = [
    # `make test-unit` tries the first host of each file, which gets all cases, at once.
    pytest.param(name, host, marks=[pytest.mark.integration] if host != hosts[0] else [])
    for name, (hosts, _) in FILES.items()
    for host in hosts
    if host in KINDS
]
TRANSLATED = ("methods", "header_fields", "targets", "paths", "hosts", "singletons", "bodies")
OVER_HTTP2 = [("http2_fields", "fields")] + [
    (name, f"{host} over http2") for name in TRANSLATED for host in ("route", "app")
]


# What fraction of a file's cases is sent at once to its hosts, in their order: the first one receives all.
_FRACTIONS = (1, 2, 1, 3, 3)


def at_once(cases: list[case.Case], name: str, host: str) -> list[case.Case]:
    """Return the cases that are sent at once to this host."""
    hosts = FILES[name][0]
    is_one_of_many = len(hosts) > 2 and not IS_COMPLETE
    return cases[:: _FRACTIONS[hosts.index(host)]] if is_one_of_many else cases


def share(cases: list[case.Case], name: str, host: str) -> list[case.Case]:
    """Return the cases that are sent byte by byte to this host: each is to one of them."""
    hosts = FILES[name][0]
    return cases if IS_COMPLETE else cases[hosts.index(host) :: len(hosts)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "host"), ON_SERVERS)
@pytest.mark.parametrize(
    ("choose", "piece"),
    [
        pytest.param(at_once, 1 << 20, id="at-once"),
        pytest.param(share, 1, id="byte-by-byte", marks=pytest.mark.integration),
    ],
)
async def test_what_comes_of_each_request_is_what_its_rule_says(
    make_server: MakeServer,
    mock_clock: trio.testing.MockClock,
    choose: Choose,
    piece: int,
    name: str,
    host: str,
) -> None:
    cases = choose(FILES[name][1], name, host)
    failures = await http1.run(Subject(host, make_server), host, cases, mock_clock, piece)

    assert not failures, "\n" + "\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "host"), OVER_HTTP2)
async def test_what_comes_of_each_request_is_the_same_over_http2(
    make_server: MakeServer, mock_clock: trio.testing.MockClock, name: str, host: str
) -> None:
    kind = "route" if host == "fields" else host.removesuffix(" over http2")
    subject = Subject(kind, make_server, http2_cleartext=True)
    failures = await http2.run(subject, host, FILES[name][1], mock_clock, 1 << 20)

    assert not failures, "\n" + "\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize("host", ["endpoint", "app"])
async def test_what_comes_of_each_request_is_the_same_over_tls(
    make_server: MakeServer, contexts: Contexts, host: str
) -> None:
    cases = [
        one
        for hosts, cases in FILES.values()
        for one in cases
        if host in hosts and one.outcome(host).endswith((" keep", " close"))
    ]
    failures = await tls.run(
        Subject(host, make_server), host, cases if IS_COMPLETE else cases[::_SHARE_OVER_TLS], contexts
    )

    assert not failures, "\n" + "\n".join(failures)


def test_what_a_proxy_says_first_is_taken_for_what_it_is() -> None:
    failures = proxy.run(FILES["proxy_protocol"][1])

    assert not failures, "\n" + "\n".join(failures)


def test_there_are_many_requests() -> None:
    assert len({one.raw for _, cases in FILES.values() for one in cases}) >= 2000

"""The hosts, one after the other."""

from __future__ import annotations

from functools import partial

import pytest

from ...support import hosts
from ...support.certificates import Certificate
from ...support.hosts import Run
from ...support.leaks import LeakCheck


@pytest.fixture(params=hosts.NAMES)
def run(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run one host after the other."""
    return partial(hosts.running, request.param, no_leak, certificate)


@pytest.fixture(params=hosts.OVER_HTTP1)
def run_http1(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run those hosts that speak HTTP/1.1."""
    return partial(hosts.running, request.param, no_leak, certificate)


@pytest.fixture(params=[name for name in hosts.OVER_HTTP1 if name not in hosts.IN_MEMORY])
def run_listening(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run those of HTTP/1.1 that listen on sockets."""
    return partial(hosts.running, request.param, no_leak, certificate)


@pytest.fixture(params=[*hosts.OVER_HTTP1, "native over http2", "starlette over http2"])
def run_bounded(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run those that give up clients which do not read, over any version of HTTP."""
    return partial(hosts.running, request.param, no_leak, certificate)


@pytest.fixture(params=hosts.OF_QUART)
def run_quart(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run those hosts whose streams are in an app."""
    return partial(hosts.running, request.param, no_leak, certificate)

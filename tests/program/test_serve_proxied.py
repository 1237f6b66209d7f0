"""`trio-sse serve` behind a proxy."""

from __future__ import annotations

import socket

import pytest

from ..support import http
from ..support.programs import serving
from ..support.waiting import SECONDS

pytestmark = pytest.mark.integration

PEERS = "tests.support.apps.peers:server"
TRUSTING = ("--trusted-proxies", "10.0.0.0/8", "--trusted-proxies", "127.0.0.1")


def test_the_options_reach_the_server() -> None:
    with serving(PEERS, env={"TRIO_SSE_TRUSTED_PROXIES": "10.0.0.0/8 127.0.0.1"}) as (_, url):
        assert http.get(f"{url}/peer", headers={"X-Forwarded-For": "1.2.3.4"}).text == "1.2.3.4"


@pytest.mark.parametrize("options", [(), ("--workers", "2", "--separate-hubs")])
def test_the_listener_expects_the_proxy_protocol(options: tuple[str, ...]) -> None:
    with serving(PEERS, "--proxy-protocol", *TRUSTING, *options) as (_, url):
        _, host, port = url.replace("//", "").split(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS) as client:
            client.sendall(b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n")
            client.sendall(b"GET /peer HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := client.recv(1000):
                answer += data
        assert answer.endswith(b"\r\n\r\n1.2.3.4:9")

"""`trio-sse serve` with an ASGI app: on our server, and by hypercorn over HTTP/2."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from trio_sse._program.stop_guard import ABANDONED
from trio_sse.cli import main

from ..support import http
from ..support.certificates import Certificate
from ..support.programs import RawStream, serving

pytestmark = pytest.mark.integration

APP = "tests.support.apps.members:app"


def over_http2(certificate: Certificate) -> list[str | Path]:
    return ["--http2", "--certfile", certificate.chain, "--keyfile", certificate.key]


def follow(client: httpx.Client) -> httpx.Response:
    client.post("/login", data={"name": "Ada"})
    return client.send(client.build_request("GET", "/news"), stream=True)


def test_an_app_is_served_and_drained() -> None:
    with serving(APP) as (program, url), http.Client(base_url=url) as client:
        assert "Members" in client.get("/").text
        response = follow(client)
        lines = response.iter_lines()
        assert next(lines) == "event: hello"
        program.send(signal.SIGTERM)
        with pytest.raises(httpx.RemoteProtocolError):  # it is cut, after a retry field
            list(lines)
        assert program.wait() == 0


def test_an_app_is_served_over_http2(certificate: Certificate) -> None:
    with serving(APP, *over_http2(certificate)) as (program, url):
        assert url.startswith("https://")
        with http.Client(base_url=url, http2=True, verify=False) as client:
            assert client.get("/").http_version == "HTTP/2"
            response = follow(client)
            assert next(response.iter_lines()) == "event: hello"
            program.send(signal.SIGTERM)
            assert program.wait() == 0


def test_a_client_that_never_reads_does_not_hold_up_a_drain() -> None:
    with (
        serving("tests.support.apps.flood:app") as (program, url),
        RawStream(f"{url}/flood", receive_buffer=4096) as raw,
    ):
        raw.read_until(b"data: x")
        program.send(signal.SIGTERM)
        assert program.wait() == 0


def test_a_second_interrupt_stops_hypercorn_at_once(certificate: Certificate) -> None:
    with (
        serving("tests.support.apps.flood:app", *over_http2(certificate)) as (program, url),
        http.Client(base_url=url, http2=True, verify=False) as client,
    ):
        response = client.send(client.build_request("GET", "/stubborn"), stream=True)
        assert next(response.iter_lines())
        program.send(signal.SIGINT)
        program.stderr.expect("draining")
        program.send(signal.SIGINT)
        assert program.wait() == ABANDONED
        assert re.search(r"without what did not end: .*flood\.py, line \d+", program.stderr.rest())


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name in ("TRIO_SSE_KEEPALIVE", "TRIO_SSE_HTTP2"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: CliRunner().invoke(main, ["serve", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((APP, "--keepalive", "3"), "--keepalive applies to a Server"),
        ((APP, "--log", "sqlite:log.db"), "--log applies to a Server"),
        ((APP, "--http2", "--certfile", __file__, "--max-connections", "3"), "combined with --http2"),
        ((APP, "--http2"), "--http2 needs --certfile"),
        (("tests.support.apps.streams:server", "--http2", "--certfile", __file__), "for ASGI apps"),
        ((APP, "--http2", "--certfile", __file__), "cannot use the certificate"),
        (("tests.support.apps.members:PAGE",), "neither a trio_sse.Server nor an ASGI app"),
        (("tests.support.apps.members:QuartSSE",), "neither a trio_sse.Server nor an ASGI app"),
    ],
)
def test_what_cannot_be_served_is_reported_in_a_line(
    invoke: Callable[..., Result], arguments: tuple[str, ...], message: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert len(result.output.splitlines()) == 1


def test_an_address_in_use_is_reported_in_a_line(
    invoke: Callable[..., Result], certificate: Certificate
) -> None:
    with serving(APP) as (_, url):
        address = url.removeprefix("http://")
        options = ("--http2", "--certfile", certificate.chain, "--keyfile", certificate.key)
        result = invoke(APP, "--bind", address, *options)
    assert result.exit_code == 1
    assert f"cannot listen on {address}" in result.output

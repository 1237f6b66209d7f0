"""`trio-sse serve` with an ASGI app: on our server and by hypercorn, over HTTP/1.1 and HTTP/2."""

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


def by_hypercorn(certificate: Certificate) -> list[str | Path]:
    return ["--host", "hypercorn", *over_tls(certificate)]


def over_tls(certificate: Certificate) -> list[str | Path]:
    return ["--certfile", certificate.chain, "--keyfile", certificate.key]


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


@pytest.mark.parametrize(
    ("options", "logged"),
    [(over_tls, "trio_sse.access: request .* path=/ "), (by_hypercorn, 'hypercorn.access: .* "GET / 2"')],
)
def test_an_app_is_served_over_http2(
    certificate: Certificate, options: Callable[[Certificate], list[str | Path]], logged: str
) -> None:
    with serving(APP, *options(certificate), "--access-log") as (program, url):
        assert url.startswith("https://")
        assert f"Serving on {url} (HTTP/2, HTTP/1.1)\n" in program.stdout.text
        with http.Client(base_url=url, http2=True, verify=False) as client:
            assert client.get("/").http_version == "HTTP/2"
            program.stderr.expect(logged)
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
        serving("tests.support.apps.flood:app", *by_hypercorn(certificate)) as (program, url),
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
        ((APP, "--host", "hypercorn", "--max-connections", "3"), "combined with --host hypercorn"),
        ((APP, "--host", "hypercorn", "--proxy-protocol"), "combined with --host hypercorn"),
        ((APP, "--http2"), "--http2 needs --certfile"),
        (("tests.support.apps.streams:server", "--host", "hypercorn"), "for ASGI apps"),
        ((APP, "--host", "hypercorn", "--certfile", __file__), "cannot use the certificate"),
        ((APP, "--certfile", __file__), "cannot use the certificate"),
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
        result = invoke(APP, "--bind", address, *by_hypercorn(certificate))
    assert result.exit_code == 1
    assert f"cannot listen on {address}" in result.output

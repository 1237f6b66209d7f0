"""No secret of a request, an option or the environment is shown: in logs, metrics, health checks or traces.

What is planted contains `s3cr3t-` and says where it was, so a failure names the place. The texts of
exceptions that an application raises are its own, and so are paths: they are logged.
"""

from __future__ import annotations

import io
import logging
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from trio_sse import Hub, Request, Response, Server
from trio_sse.cli import main
from trio_sse.logs import JSONFormatter
from trio_sse.metrics import encode_metrics
from trio_sse.otel import Tracing

from ..support import http
from ..support.certificates import Certificate
from ..support.hosts import NAMES, running
from ..support.leaks import LeakCheck
from ..support.programs import trio_sse
from ..support.serving import in_memory
from ..support.waiting import until, until_blocking

HEADERS = (
    "Authorization: Bearer s3cr3t-authorization",
    "Proxy-Authorization: Basic s3cr3t-proxy-authorization",
    "Cookie: session=s3cr3t-cookie",
    "X-Api-Key: s3cr3t-header",
    "Referer: https://example.org/?token=s3cr3t-referer",
    "Last-Event-ID: s3cr3t-last-event-id",
)
QUERY = "token=s3cr3t-query&last_event_id=s3cr3t-id-in-query&user:s3cr3t-name@x=1"

# What makes each kind of line: a stream, errors before and after it begins, refusals, a poll, a body.
PATHS = ("three", "fails_before", "fails_after", "fails_in_nursery", "refuses", "answers", "missing")


def found_in(text: str) -> set[str]:
    return set(re.findall(r"s3cr3t-[a-z-]*", text))


@contextmanager
def everything_logged() -> Iterator[list[io.StringIO]]:
    """Log everything at DEBUG, as text and as JSON, into the texts that are yielded."""
    root = logging.getLogger()
    texts = [io.StringIO(), io.StringIO()]
    handlers = [logging.StreamHandler(text) for text in texts]
    handlers[1].setFormatter(JSONFormatter())
    level, hpack = root.level, logging.getLogger("hpack")
    root.setLevel(logging.DEBUG)
    hpack.setLevel(logging.INFO)  # as in the program; here it is the client's, too
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield texts
    finally:
        root.setLevel(level)
        hpack.setLevel(logging.NOTSET)
        for handler in handlers:
            root.removeHandler(handler)


class Traces:
    """What was traced, as text."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider)

    @property
    def text(self) -> str:
        return "\n".join(span.to_json() for span in self._exporter.get_finished_spans())


@pytest.mark.parametrize(
    "name", ["native", *(pytest.param(name, marks=pytest.mark.integration) for name in NAMES[1:])]
)
async def test_no_host_shows_secrets_of_requests(
    name: str, no_leak: LeakCheck, certificate: Certificate, capfd: pytest.CaptureFixture[str]
) -> None:
    traces = Traces()
    options: dict[str, Any] = {"access_log": True} if name.startswith("native") else {}
    with everything_logged() as logs:
        async with running(name, no_leak, certificate, tracing=traces.tracing, **options) as host:
            for path in PATHS:
                async with host.opened(f"/{path}?{QUERY}", *HEADERS) as stream:
                    await stream.rest() if path == "three" else await stream.whole()
            async with host.opened(f"/three?{QUERY}&wait=0", *HEADERS, "Accept: application/json") as stream:
                assert "events" in (await stream.whole()).decode()
            await until(lambda: not host.statistics().open_streams)
            metrics = encode_metrics(host.statistics())[0].decode()
            states = repr((host.statistics(), host.life.last, host.hub.statistics()))
    output = "".join([text.getvalue() for text in logs]) + "".join(capfd.readouterr())
    assert "GET /fails_before" in traces.text or "fails_before" in traces.text
    assert "fails_after" in output
    assert found_in(output + metrics + states + traces.text) == set()
    traces.provider.shutdown()


BAD_REQUESTS = (
    b"GET http://user:s3cr3t-userinfo@test/whole?token=s3cr3t-query HTTP/1.1\r\nHost: test\r\n\r\n",
    b"GET /whole HTTP/1.1\r\nHost: user:s3cr3t-userinfo@test\r\n\r\n",
    b"GET /whole HTTP/1.1\r\nHost: test\r\nAuthorization Bearer s3cr3t-authorization\r\n\r\n",
    b"GET /whole HTTP/1.1\r\nHost: test\r\nAuthorization: s3cr3t-control\0\r\n\r\n",
    b"GET /whole HTTP/1.1\r\nHost: test\r\nCookie: s3cr3t-folded\r\n s3cr3t-folded\r\n\r\n",
    b"GET /whole s3cr3t-version HTTP/1.1\r\nHost: test\r\n\r\n",
    b"s3cr3t-line\r\n\r\n",
    b"POST /whole HTTP/1.1\r\nHost: test\r\nContent-Length: s3cr3t-length\r\n\r\n",
    b"POST /whole HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: s3cr3t-coding\r\n\r\n",
    b"POST /whole HTTP/1.1\r\nHost: test\r\nExpect: s3cr3t-expectation\r\nContent-Length: 1\r\n\r\n",
    b"POST /whole HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\ns3cr3t-chunk\r\n",
    b"POST /whole HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\ns3cr3t-body",
    b"POST /broken HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\ns3cr3t-body",
    b"POST /whole HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999\r\n\r\ns3cr3t-large-body",
    b"GET /whole?s3cr3t-%s HTTP/1.1\r\nHost: test\r\n\r\n" % (b"x" * 20_000),
    b"GET /topics/%0a?token=s3cr3t-query HTTP/1.1\r\nHost: test\r\n\r\n",
    b"OPTIONS /whole?token=s3cr3t-query HTTP/1.1\r\nHost: test\r\nOrigin: https://s3cr3t-origin\r\n\r\n",
)


async def test_no_answer_or_line_shows_secrets_of_requests_that_are_refused() -> None:
    traces = Traces()
    server = Server(hub=Hub(tracing=traces.tracing), access_log=True, cors_origins=["https://example.org"])
    shown: list[str] = []

    @server.endpoint("/whole", methods=["GET", "POST"])
    async def whole(request: Request) -> Response:
        shown.append(f"{request} {request.headers}")
        return Response("x")

    @server.endpoint("/broken", methods=["POST"])
    async def broken(request: Request) -> Response:
        raise ValueError("no")

    @server.route("/topics/{topic}")
    async def topics(connection: Any, topic: str) -> None:
        await connection.subscribe(topic)

    answers = b""
    with everything_logged() as logs:
        async with in_memory(server) as memory:
            for request in BAD_REQUESTS:
                async with memory.connect() as client:
                    await client.send(request)
                    assert isinstance(client.stream, trio.StapledStream)
                    await client.stream.send_eof()
                    answers += await client.closed()
    output = "".join([text.getvalue() for text in logs])
    assert output.count("refused peer=") >= 10
    assert "the endpoint failed for path=/broken" in output
    assert found_in(output + "".join(shown) + traces.text + answers.decode("latin-1")) == set()
    traces.provider.shutdown()


@pytest.mark.integration
def test_the_program_shows_no_secrets(tmp_path: Path) -> None:
    status, config = tmp_path / "status.json", tmp_path / "config.toml"
    config.write_text(
        'keyfile_password = "s3cr3t-config"\nmetrics_bind = "127.0.0.1:0"\naccess_log = true\n'
        f'status_file = "{status}"\nlog_level = "debug"\nlog_format = "json"\n'
    )
    environment = {"TRIO_SSE_LOG": "redis://user:s3cr3t-log@127.0.0.1:1/0", "API_KEY": "s3cr3t-environment"}
    command = ["serve", "tests.support.apps.streams:server", "--bind", "127.0.0.1:0", "--config", str(config)]
    lines = dict(line.split(": ") for line in HEADERS)
    with trio_sse(*command, env=environment) as program:
        monitor = program.stdout.expect(r"Metrics and health checks on (\S+)")[1]
        url = program.stdout.expect(r"Serving on (\S+) \(")[1]
        program.stderr.expect("the shared log is not available yet")
        http.get(f"{url}/missing?{QUERY}", headers=lines)
        del lines["Last-Event-ID"]  # the app quotes it in an error of its own
        http.get(f"{url}/count/2?token=s3cr3t-query", headers=lines)
        answers = [http.get(f"{monitor}{path}").text for path in ("/metrics", "/readyz", "/health")]
        program.process.send_signal(signal.SIGUSR1)
        program.stderr.expect("status: ")
        until_blocking(status.exists)
        answers.append(status.read_text())
        program.process.terminate()
        program.wait()
        answers += [program.stdout.rest(), program.stderr.rest()]
    assert "path=/count/2" in answers[-1]
    assert found_in("".join(answers)) == set()


@pytest.mark.parametrize(
    "text",
    [
        'log = "redis:/user:s3cr3t-log@127.0.0.1:1"',
        'keyfile_password = ["s3cr3t-config"]',
        'keyfile_pasword = "s3cr3t-config"',
        'keyfile_password = "s3cr3t-config',
        'trusted_proxies = ["http://user:s3cr3t-config@127.0.0.1"]\nproxy_protocol = 7',
    ],
)
def test_a_configuration_that_is_refused_is_not_quoted(text: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text + "\n")
    finished = CliRunner().invoke(
        main, ["serve", "tests.support.apps.streams:server", "--config", str(config)]
    )
    assert finished.exit_code in (1, 2)
    assert found_in(finished.output) == set()

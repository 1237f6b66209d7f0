"""The options of `Server` as options of the program."""

from __future__ import annotations

import inspect
import math
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from trio_sse import Server
from trio_sse._asgi.types import Receive, Scope, Send
from trio_sse._program.errors import ProgramError
from trio_sse.cli import main
from trio_sse.cli.server_options import SERVER_OPTIONS, configure, options_for_hypercorn


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Do nothing."""


def test_each_option_is_an_argument_of_server_and_in_the_help() -> None:
    arguments = inspect.signature(Server).parameters
    text = CliRunner().invoke(main, ["serve", "--help"]).output
    for option in SERVER_OPTIONS:
        assert option.name in arguments
        assert option.flag in text


def test_options_override_those_of_a_server_and_leave_the_others() -> None:
    server = Server(drain_timeout=3, max_connections=5, keepalive=7)
    assert configure(server, {"drain_timeout": 4.0, "max_connections": None, "keepalive": None}) is server
    assert server.drain_timeout == 4
    assert server._options.admission.max_connections == 5
    assert server._options.streams.keepalive == 7


def test_options_make_the_server_of_an_app() -> None:
    assert configure(app, {"drain_timeout": 4.0, "keepalive": None}).drain_timeout == 4


@pytest.mark.parametrize("target", [Server(), app])
def test_an_option_that_is_not_acceptable_is_reported(target: Server) -> None:
    with pytest.raises(ProgramError, match="drain_timeout must be"):
        configure(target, {"drain_timeout": math.nan})


def test_proxies_are_options_of_the_server() -> None:
    server = configure(Server(), {"trusted_proxies": ("10.0.0.0/8", "unix"), "root_path": "/app"})
    assert server.trusted_proxies == ("10.0.0.0/8", "unix")
    assert server._options.proxies.decoded_root_path == "/app"


def test_http2_is_an_option_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured: list[Server] = []
    monkeypatch.setattr(
        "trio_sse.cli.serve.serve_until_signalled", lambda server, options: configured.append(server)
    )
    monkeypatch.setattr("trio_sse.cli.serve.trio.run", lambda serve, options: serve(options))
    config = tmp_path / "app.toml"
    config.write_text("http2 = false\nhttp2-cleartext = true\nhttp2-max-streams = 9\n")
    for arguments, expected in (
        ([], (True, False, 250)),
        (["--no-http2"], (False, False, 250)),
        (["--config", str(config)], (False, True, 9)),
        (["--config", str(config), "--http2"], (True, True, 9)),
    ):
        command = ["serve", "tests.program.test_server_options:app", *arguments]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        server = configured[-1]
        http2 = server._options.http2
        assert (server.http2, server.http2_cleartext, http2.http2_max_streams) == expected


def test_hypercorn_gets_the_options_that_it_has() -> None:
    values = {"trusted_proxies": ("10.0.0.1",), "drain_timeout": None, "forwarded_headers": ()}
    assert options_for_hypercorn(values) == {"trusted_proxies": ("10.0.0.1",)}
    with pytest.raises(ProgramError, match="must be an address"):
        options_for_hypercorn({"trusted_proxies": ("proxy",)})
    assert options_for_hypercorn({"root_path": "/app"}) == {"root_path": "/app"}
    with pytest.raises(ProgramError, match="--keep-alive cannot be combined with --host hypercorn"):
        options_for_hypercorn({"keep_alive": 5.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--proxy-protocol"], "--proxy-protocol needs --trusted-proxies"),
        (["--trusted-proxies", "proxy"], "a trusted proxy must be an address"),
        (["--root-path", "app"], "a root path must be like /app"),
        (["--http2-cleartext"], "pip install 'trio-sse[http2]'"),
    ],
)
def test_what_cannot_be_is_reported_in_a_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # hpack is not installed
    result = CliRunner().invoke(main, ["serve", "tests.program.test_server_options:app", *arguments])
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
    assert message in result.output


def test_a_host_that_is_an_address_is_reported() -> None:
    result = CliRunner().invoke(main, ["serve", "app:app", "--host", "0.0.0.0"])
    assert result.exit_code == 2
    assert "use --bind" in result.output


def test_workers_for_an_app_without_a_hub_need_no_shared_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hubless.py").write_text("async def app(scope, receive, send): ...\n")
    served = []
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr("trio_sse.cli.serve.existing_engines", list)
    monkeypatch.setattr(
        "trio_sse._workers.serve_workers.serve_with_workers",
        lambda server, options, workers, **others: served.append(workers),
    )
    result = CliRunner().invoke(main, ["serve", "hubless:app", "--app-dir", str(tmp_path), "--workers", "2"])
    assert result.exit_code == 0, result.output
    assert served == [2]
